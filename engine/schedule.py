"""The learning rate of every step: a pure function of the step's number, so that nothing has to be saved.

The one that follows what the run measures, ``plateau``, is in `engine.plateau`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from data_process.errors import InputError
from engine.best import EVAL, LOSS, METRIC

Schedule = Callable[[int], float]
"""Step (from 0) to the learning rate used in it."""


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate changes.

    Attributes:
        name: ``constant``; ``multistep``: times `factor` at each milestone; ``cosine``: half a cosine from the full
            rate after the warm-up to `final_lr` at the end; ``rise_fall``: one rate an epoch, from `final_lr` in a line
            to the full rate in the middle of the run, then half a cosine back (CSTP; the first epoch is one of almost
            no learning, as published); ``plateau``: times `factor` whenever `measure` has not become better in
            more than `patience` evaluations or epochs, not below `final_lr` (torch's ReduceLROnPlateau).
        warmup: steps over which the rate rises in a line; step s of them uses (s + 1) / warmup of it.
        milestones: epochs after whose end the rate falls (IIC: 45, 90, 125, 160, ``train_ssl.py`` line 301).
        factor: of each fall.
        final_lr: where the cosine ends; reached at the step after the last. Of ``rise_fall`` also the start.
        measure: of ``plateau``: ``eval/NAME`` of an evaluation that the run takes of itself, ``loss/NAME`` or
            ``metric/NAME`` of the log, as the mean of an epoch's records. Losses, ``eval/NAME_loss`` among them, are
            better the smaller they are, all others the larger.
        patience: of ``plateau``.
        threshold: of ``plateau``: what is better by a smaller share than this is not better.
    """

    name: Literal["constant", "multistep", "cosine", "rise_fall", "plateau"] = "constant"
    warmup: int = 0
    milestones: tuple[float, ...] = (45, 90, 125, 160)
    factor: float = 0.2
    final_lr: float = 0.0
    measure: str = "eval/val_loss"
    patience: int = 10
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.final_lr < 0 or self.factor <= 0:
            raise InputError(
                "schedule.warmup and schedule.final_lr must not be negative, schedule.factor must be positive; got "
                f"{self.warmup}, {self.final_lr}, {self.factor}"
            )
        if self.name == "rise_fall" and (self.warmup or not self.final_lr):
            raise InputError(
                "schedule.name rise_fall starts at schedule.final_lr, which must be positive, and takes no "
                f"schedule.warmup; got {self.final_lr} and {self.warmup}"
            )
        if self.name == "plateau":
            self._check_plateau()
        if list(self.milestones) != sorted(self.milestones):
            raise InputError(f"schedule.milestones must rise, got {self.milestones}")

    def _check_plateau(self) -> None:
        if not self.measure.startswith((LOSS, METRIC, EVAL)):
            raise InputError(
                f"schedule.measure must be {EVAL}NAME, {LOSS}NAME or {METRIC}NAME, such as {EVAL}val_loss; got "
                f"{self.measure}"
            )
        if self.warmup or self.patience < 0 or self.factor >= 1 or not 0 <= self.threshold < 1:
            raise InputError(
                "schedule.name plateau takes no schedule.warmup, a schedule.patience of 0 or more, a schedule.factor "
                f"below 1 and a schedule.threshold in [0, 1); got {self.warmup}, {self.patience}, {self.factor}, "
                f"{self.threshold}"
            )


def build_schedule(config: ScheduleConfig, *, base_lr: float, num_steps: int, steps_per_epoch: int) -> Schedule:
    """The schedule of a run of `num_steps` steps; of ``plateau`` what it begins with, see `engine.plateau`.

    Raises:
        InputError: if the warm-up is longer than the run.
    """
    if config.warmup > num_steps:
        raise InputError(f"schedule.warmup ({config.warmup}) must not exceed the run's {num_steps} steps")

    def learning_rate(step: int) -> float:
        if config.name == "rise_fall":
            # Epochs as a share of the run's, which need not be whole ones where a run's length is given in steps.
            return _rise_fall(step // steps_per_epoch * steps_per_epoch / num_steps, config.final_lr, base_lr)
        rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
        if config.name == "multistep":
            return rise * base_lr * config.factor ** sum(step >= m * steps_per_epoch for m in config.milestones)
        if config.name == "cosine":
            if step < config.warmup:
                return rise * base_lr
            progress = (step - config.warmup) / max(1, num_steps - config.warmup)
            return _half_cosine(progress, config.final_lr, base_lr)
        return rise * base_lr

    return learning_rate


def _half_cosine(progress: float, low: float, high: float) -> float:
    return low + (high - low) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def _rise_fall(progress: float, low: float, high: float) -> float:
    if progress < 0.5:
        return low + (high - low) * 2.0 * progress
    return _half_cosine(2.0 * progress - 1.0, low, high)
