"""Naming how clips lie, as a task beside another one: one linear layer on pooled features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class OrientationNaming(nn.Module):
    """Which of some orientations each clip has.

    Args:
        in_dim: C, features.
        num_orientations: classes.
        weight: of the loss.
    """

    def __init__(self, in_dim: int, num_orientations: int, *, weight: float) -> None:
        super().__init__()
        if weight <= 0 or num_orientations < 2:
            raise ValueError(
                f"orientation_weight ({weight}) must not be negative, and needs more ways than one for clips to lie "
                f"(clip.orientations {num_orientations}): set clip.orientations to 4, 8 or 16"
            )
        self.weight = weight
        self.out = nn.Linear(in_dim, num_orientations)

    def forward(self, features: Sequence[Tensor], places: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Weighted cross-entropy and accuracy, () each, of clips' features (B, C) and orientations (B,) int64."""
        labels = torch.cat(list(places))
        answers = self.out(torch.cat(list(features)))
        answers = answers if answers.dtype == torch.float64 else answers.float()
        accuracy = (answers.detach().argmax(dim=1) == labels).double().mean()
        return self.weight * functional.cross_entropy(answers, labels), accuracy
