"""The interface of a backbone: clips in, feature map out."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """A video network without pooling and head.

    Attributes:
        out_dim: channels of the feature map.
        min_frames: fewest frames of a clip that it accepts.
        min_size: smallest height and width that it accepts, pixels.
    """

    out_dim: int
    min_frames: int = 1
    min_size: int = 1

    @abstractmethod
    def forward(self, clips: Tensor) -> Tensor:
        """Feature map (B, out_dim, t, h, w) of clips (B, C, T, H, W)."""

    def pooled(self, clips: Tensor) -> Tensor:
        """Global average of the feature map, (B, out_dim)."""
        return self.forward(clips).mean(dim=(2, 3, 4))
