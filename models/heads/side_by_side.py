"""Several heads on the same features, as one network whose embeddings travel and are queued together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.heads.embedding import MLPHead


class SideBySide(nn.ModuleDict):
    """Heads by name, in the order given.

    Args:
        heads: on the same features.

    Attributes:
        shapes: of the embedding that each head gives for a clip.
        out_dim: numbers of all of them.
    """

    def __init__(self, heads: Mapping[str, MLPHead]) -> None:
        super().__init__(heads)
        self.shapes = {name: head.out_shape for name, head in heads.items()}
        self.out_dim = sum(shape.numel() for shape in self.shapes.values())

    def forward(self, features: Tensor) -> Tensor:
        """(B, out_dim) of pooled features (B, C)."""
        return torch.cat([head(features).flatten(1) for head in self.values()], dim=1)

    def split(self, rows: Tensor) -> dict[str, Tensor]:
        """Each head's part of rows (B, out_dim), (B, *shape)."""
        parts = rows.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return {name: part.unflatten(1, self.shapes[name]) for name, part in zip(self.shapes, parts, strict=True)}
