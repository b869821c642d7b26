"""A learning rate that falls where a value of the log stops getting better: a pure function of the values so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from data_process.errors import InputError
from engine.best import EVAL, is_smallest_best
from engine.schedule import ScheduleConfig


class Plateau:
    """The rate of ``schedule.name plateau``, the same on every rank.

    Values of an evaluation count one by one; those of losses and metrics as the mean of an epoch's records.

    Args:
        config: of the schedule.
        base_lr: rate of the first epoch.

    Attributes:
        state: what a checkpoint keeps: the measure, its values so far, and those of the epoch that is not over.
        rate: to be used in the next step.
    """

    def __init__(self, config: ScheduleConfig, base_lr: float) -> None:
        self._config, self._base_lr, self.rate = config, base_lr, base_lr
        self.state: dict[str, Any] = {"measure": config.measure, "values": [], "open": []}

    @property
    def is_evaluated(self) -> bool:
        """Whether it follows a value of an evaluation, which most records do not have."""
        return self._config.measure.startswith(EVAL)

    def observe(self, values: Mapping[str, float], *, epoch_ends: bool) -> None:
        """Take note of a record: name as in the measure to mean over ranks.

        Raises:
            InputError: where it does not hold the measure.
        """
        measure, of_epoch = self._config.measure, self.state["open"]
        if measure in values:
            of_epoch.append(values[measure])
        elif not self.is_evaluated:
            raise InputError(
                f"schedule.measure {measure} is not in the log of this method; it has {', '.join(sorted(values))}"
            )
        if of_epoch and (epoch_ends or self.is_evaluated):
            self.state = {"measure": measure, "values": [*self.state["values"], _mean(of_epoch)], "open": []}
            self.rate = plateau_rate(self.state["values"], self._config, base_lr=self._base_lr)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with a checkpoint's values.

        Raises:
            InputError: where they are of another measure.
        """
        if state and state["measure"] != self._config.measure:
            raise InputError(
                f"schedule.measure was {state['measure']}, is now {self._config.measure}: its values so far are not "
                "known. Set it back, or start a new run in another folder"
            )
        if state:
            self.state = {"measure": state["measure"], "values": [*state["values"]], "open": [*state["open"]]}
            self.rate = plateau_rate(self.state["values"], self._config, base_lr=self._base_lr)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def plateau_rate(values: Sequence[float], config: ScheduleConfig, *, base_lr: float) -> float:
    """Learning rate after these values, by the rules of torch's ReduceLROnPlateau with a relative threshold.

    It falls by `config.factor`, not below `config.final_lr`, when more than `config.patience` values in a row are not
    better than the best so far. A value that is not a number is not better.
    """
    smallest = is_smallest_best(config.measure)
    rate, best, bad = base_lr, math.inf if smallest else -math.inf, 0
    for value in values:
        # torch writes the rule so; it is meant for values above 0.
        limit = best * (1.0 - config.threshold) if smallest else best * (1.0 + config.threshold)
        if value < limit if smallest else value > limit:
            best, bad = value, 0
        else:
            bad += 1
        if bad > config.patience:
            lower, bad = max(rate * config.factor, config.final_lr), 0
            rate = lower if rate - lower > _LEAST_FALL else rate
    return rate


_LEAST_FALL = 1e-8
"""Falls of less are left out, as by torch."""
