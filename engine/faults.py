"""Losses and gradients that are not finite: the batch that gave them is named, or skipped within a budget."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

import torch
from torch import Tensor

from data_process.errors import RunError
from engine.world import World
from models.method import Method

_LOG = logging.getLogger(__name__)
_NEVER = 2**62
_LARGEST_STATISTIC = 2**16
"""Numbers of a buffer that a skipped step may have changed in its forward pass: running statistics and constants. Rows
of banks and queues change in `Method.after_step` alone, which a skipped step leaves out."""


class TooManyFaultsError(RunError):
    """A step that is not finite, and no budget to leave it out."""


class FaultWatch:
    """The watch over one run.

    Without a budget the device remembers the first faulty step, and is asked where it is waited for anyway. With one,
    each step is judged before the optimizer's, which waits for its gradients.

    Args:
        method: whose statistics a skipped step must not leave behind.
        world: the ranks that agree.
        run_dir: for the message.
        max_skipped: steps that may be skipped.
        judge_gradients: whether gradients that are not finite are faults; with loss scaling they are not.

    Attributes:
        num_skipped: steps so far.
    """

    def __init__(self, method: Method, world: World, run_dir: Path, *, max_skipped: int, judge_gradients: bool) -> None:
        self._world, self._run_dir = world, run_dir
        self._max_skipped, self._judge_gradients = max_skipped, judge_gradients
        self._first_bad = torch.full((), _NEVER, dtype=torch.int64, device=world.device)
        small = [buffer for buffer in method.buffers() if buffer.numel() <= _LARGEST_STATISTIC]
        self._statistics = small if max_skipped else []
        self._before = [buffer.clone() for buffer in self._statistics]
        self.num_skipped = 0

    @property
    def wants_norm(self) -> bool:
        """Whether `is_sound` has to know the norm of the gradients."""
        return self._max_skipped > 0 and self._judge_gradients

    def begin(self) -> None:
        """Before the forward pass."""
        if self._statistics:
            _copy(self._statistics, self._before)

    def is_sound(self, step: int, loss: Tensor, norm: Tensor | None) -> bool:
        """Whether the optimizer may step; the same on all ranks.

        Args:
            step: from 0.
            loss: of this rank, ().
            norm: of the gradients of all ranks, (); None where it is not wanted.

        Raises:
            TooManyFaultsError: for one faulty step more than may be skipped.
        """
        finite = torch.isfinite(loss.detach())
        if not self._max_skipped:
            self._first_bad = torch.where(finite, self._first_bad, self._first_bad.clamp(max=step))
            return True
        sound = finite if norm is None else finite & torch.isfinite(norm)
        if not self._world.largest(int(not sound)):
            return True
        self._skip(step, is_loss_finite=bool(finite))
        return False

    def _skip(self, step: int, *, is_loss_finite: bool) -> None:
        if self._statistics:
            _copy(self._before, self._statistics)
        bad = [rank for rank, finite in enumerate(self._world.gather(is_loss_finite)) if not finite]
        told = self._told(step, bad, what="loss" if bad else "gradient")
        if self.num_skipped == self._max_skipped:
            raise TooManyFaultsError(
                f"{told} The {self._max_skipped} steps that train.max_skipped allows have been skipped before it"
            )
        self.num_skipped += 1
        if self._world.is_main:
            _LOG.warning("%s Step skipped, %d of at most %d", told, self.num_skipped, self._max_skipped)

    def found(self) -> str:
        """What was not finite since the start, on any rank; empty where nothing was. Waits for the device."""
        if self._max_skipped:
            return ""
        mine = int(self._first_bad.item())
        first = -self._world.largest(-mine)
        if first == _NEVER:
            return ""
        bad = [rank for rank, step in enumerate(self._world.gather(mine)) if step == first]
        return self._told(first, bad, what="loss")

    def _told(self, step: int, ranks: list[int], *, what: str) -> str:
        world_size = self._world.world_size
        whose = f" on rank {', '.join(map(str, ranks))}" if ranks and world_size > 1 else ""
        part = f" --rank {ranks[0]} --ranks {world_size}" if ranks and world_size > 1 else ""
        return (
            f"the {what} of step {step} is infinite or NaN{whose}; `intravid inspect --run "
            f"{shlex.quote(str(self._run_dir))} --step {step}{part}` shows its batch."
        )


def _copy(given: list[Tensor], target: list[Tensor]) -> None:
    torch._foreach_copy_(target, given)  # pyright: ignore[reportPrivateImportUsage]
