"""What the forward passes of a step leave for `after_step`: one pass, or the micro-batches of accumulated gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.batch import ViewBatch


class Pending:
    """Named rows of this rank, one below the other in the order of its samples.

    What was left by a step that never came to its `after_step` is forgotten at the next batch. A rank's micro-batches
    are neighbouring parts of its batch, so that the rows, gathered in rank order, are those of the undivided batch.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[Tensor]] = {}

    def add(self, batch: ViewBatch, **rows: Tensor) -> None:
        """Keep rows (b, ...) of a batch of b samples until they are taken.

        Args:
            batch: tells whether it continues the batch before it.
            rows: by name.
        """
        if not batch.continues:
            self._rows = {}
        for name, value in rows.items():
            self._rows.setdefault(name, []).append(value.detach())

    def take(self) -> dict[str, Tensor]:
        """All rows since the last step, by name; empty where there was none."""
        taken = {name: parts[0] if len(parts) == 1 else torch.cat(parts) for name, parts in self._rows.items()}
        self._rows = {}
        return taken
