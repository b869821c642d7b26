"""How often each class of a pretext task is named right, over the last batches: counts that fade.

Plain accuracy flatters a head where one label is frequent (CSTP's release draws "the same box" for two thirds of its
pairs). The mean over classes of the share that is named right does not: naming always the same class gives 1 / C.

B samples of this rank, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.gather import gather_rows

_BATCHES = 100
"""After how many batches a count has faded to 1 / e."""


class Recall(NamedTuple):
    """What is known of a task after a batch.

    Attributes:
        accuracy: share of this rank's batch that was named right, ().
        balanced: mean over the classes seen so far of the share named right, in the last batches of all ranks and this
            one, ().
        shares: how frequent each label is in these batches, (C,).
    """

    accuracy: Tensor
    balanced: Tensor
    shares: Tensor


class RunningRecalls(nn.Module):
    """Counts for several tasks, kept in buffers, so that reports go on after a restart and agree between ranks.

    Args:
        num_classes: name of each task to its C; labels run from 0.
    """

    def __init__(self, num_classes: Mapping[str, int]) -> None:
        super().__init__()
        for name, classes in num_classes.items():
            self.register_buffer(f"{name}_counts", torch.zeros(2, classes))  # seen, and named right
        self._pending: dict[str, Tensor] = {}

    @torch.no_grad()
    def observe(self, name: str, logits: Tensor, labels: Tensor, *, continues: bool = False) -> Recall:
        """Count the answers of a batch; `keep` adds them to those of earlier ones.

        Args:
            name: of the task.
            logits: (B, C or more).
            labels: (B,) int64.
            continues: whether the batch is a further micro-batch of a step; otherwise what was observed since the last
                `keep` is forgotten, and with it a step that did not come to its end.
        """
        before = self.get_buffer(f"{name}_counts")
        seen = labels.unsqueeze(1) == torch.arange(before.shape[1], device=labels.device)
        right = seen & (logits.argmax(dim=1) == labels).unsqueeze(1)
        latest = torch.stack([seen.sum(dim=0), right.sum(dim=0)]).to(before.dtype)
        observed = self._pending[name] + latest if continues else latest
        self._pending[name] = observed
        all_seen, all_right = _faded(before) + observed
        per_class = all_right / all_seen.clamp_min(torch.finfo(before.dtype).tiny)
        return Recall(latest[1].sum() / len(labels), per_class.sum() / (all_seen > 0).sum(), all_seen / all_seen.sum())

    @torch.no_grad()
    def keep(self) -> None:
        """Add what all ranks observed since the last time; a collective call where there is anything."""
        if not self._pending:
            return
        names, counts = self._pending.keys(), self._pending.values()
        everyone = gather_rows(torch.cat([one.flatten() for one in counts]).unsqueeze(0)).sum(dim=0)
        for name, latest in zip(names, everyone.split([one.numel() for one in counts]), strict=True):
            kept = self.get_buffer(f"{name}_counts")
            kept.copy_(_faded(kept) + latest.view_as(kept))
        self._pending = {}


def _faded(counts: Tensor) -> Tensor:
    return counts * (1.0 - 1.0 / _BATCHES)
