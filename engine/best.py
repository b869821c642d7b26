"""Which checkpoint is the best so far, by a value that the log holds anyway."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from data_process.errors import InputError

LOSS, METRIC, EVAL = "loss/", "metric/", "eval/"


def is_smallest_best(measure: str) -> bool:
    """Whether a measure is better the smaller it is: a loss, of training or of an evaluation (``eval/val_loss``)."""
    return measure.startswith(LOSS) or measure.endswith("_loss")


class Best:
    """The best checkpoint of a run.

    A checkpoint is judged by the mean of the records since the one before it: single steps differ by their clips. By a
    value of an evaluation only the checkpoint of the very weights that were evaluated is judged.

    Args:
        measure: ``loss/NAME``, of which the smallest is best, or ``metric/NAME`` or ``eval/NAME``, of which the largest
            is (of an ``eval/NAME_loss`` the smallest); empty for none.

    Attributes:
        state: what a checkpoint keeps: measure, value and step of the best so far; empty before there is one.
    """

    def __init__(self, measure: str) -> None:
        self._measure, self._values = measure, list[float]()
        self.state: dict[str, Any] = {}

    @property
    def is_evaluated(self) -> bool:
        """Whether it is a value of an evaluation, which most records do not have."""
        return self._measure.startswith(EVAL)

    def observe(self, values: Mapping[str, float]) -> None:
        """Take note of a record: name as in the measure to mean over ranks.

        Raises:
            InputError: where it does not hold the measure.
        """
        if not self._measure or (self.is_evaluated and not any(name.startswith(EVAL) for name in values)):
            return
        if self._measure not in values:
            raise InputError(
                f"train.keep_best {self._measure} is not in the log of this method; it has {', '.join(sorted(values))}"
            )
        self._values.append(values[self._measure])

    def judge(self, step: int) -> None:
        """Before the checkpoint of a step: whether it is the best so far. Without a record since the last it is not."""
        known, self._values = self._values, []
        value = sum(known) / len(known) if known else math.nan
        sign = -1.0 if is_smallest_best(self._measure) else 1.0
        if math.isfinite(value) and (not self.state or sign * value > sign * self.state["value"]):
            self.state = {"measure": self._measure, "value": value, "step": step}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with a checkpoint's best; one by another measure is forgotten."""
        self.state = dict(state) if state.get("measure") == self._measure else {}
