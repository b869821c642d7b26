"""A backbone and the head on its pooled features, as one network that can be copied and followed."""

from __future__ import annotations

from torch import Tensor, nn

from models.backbone import Backbone


class Encoder(nn.Module):
    """Clips (B, C, T, H, W) to what the head makes of their pooled features, (B, D).

    A method that also holds backbone and head makes it anew where it is needed: kept, the weights would stand in
    checkpoints under two names.

    Args:
        backbone: gives (B, out_dim) by `pooled`.
        head: (B, out_dim) to (B, D).
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, clips: Tensor) -> Tensor:
        """(B, D)."""
        return self.head(self.backbone.pooled(clips))
