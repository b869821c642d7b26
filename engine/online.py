"""Measures that a run takes of its own network while it trains: between two steps, by all ranks together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.beats import Stage
from models.method import Method
from pipelines.batch import ViewBatch

_LOG = logging.getLogger(__name__)

At = Callable[[Stage], None]
"""Is told the stage that a rank is in."""

Measure = Callable[[Method, At], Mapping[str, float]]
"""From the method in training to values by name, the same on every rank. Leaves the method as it was."""


@dataclass(frozen=True)
class OnlineMeasure:
    """What is measured, and how often.

    Attributes:
        every: steps between two measurements; the last step of a run is measured too.
        measure: called by every rank. It passes on `at` to `watched`.
    """

    every: int
    measure: Measure

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"a measure is taken every 1 or more steps, not {self.every}")


class Online:
    """All measures of a run.

    They depend on the weights alone, and so a run that was killed repeats them; nothing of them has to be saved.

    Args:
        measures: in the order in which they are taken.
        num_steps: of the run.
    """

    def __init__(self, measures: Sequence[OnlineMeasure], *, num_steps: int) -> None:
        self._measures, self._num_steps = measures, num_steps

    def is_due(self, done: int) -> bool:
        """Whether something is measured after `done` steps."""
        return any(self._due(one, done) for one in self._measures)

    def take(self, done: int, method: Method, at: At) -> dict[str, float]:
        """The values due after `done` steps by name; called by every rank.

        Args:
            done: finished steps.
            method: in training; its modes are as before, afterwards.
            at: is told the stages.
        """
        values: dict[str, float] = {}
        for one in self._measures:
            if self._due(one, done):
                begin, modes = time.perf_counter(), [(module, module.training) for module in method.modules()]
                found = one.measure(method, at)
                for module, training in modes:
                    module.training = training
                told = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
                _LOG.info("step %d: %s (%.1f s)", done, told, time.perf_counter() - begin)
                values |= found
        return values

    def _due(self, one: OnlineMeasure, done: int) -> bool:
        return done % one.every == 0 or done == self._num_steps


def watched(batches: Iterable[ViewBatch], at: At) -> Iterator[ViewBatch]:
    """The same batches, each of them told to the watch, which is lost where a single one takes too long; behind the
    last a rank waits for those that are not through.
    """
    at(Stage.EVALUATE)
    for batch in batches:
        yield batch
        at(Stage.EVALUATE)
    at(Stage.COMPARE)
