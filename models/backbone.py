"""The interface of a backbone: clips in, feature map out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, is_grad_enabled, nn

from data_process.errors import InputError
from models.recompute import recomputed


class Backbone(nn.Module, ABC):
    """A video network without pooling and head.

    The module of a backbone also holds ``LAYOUTS``: for each published layout of its weights (``iic``, ``torchvision``,
    ...) the function from a key of our state dict to the name of that entry there. Where the weights of a layout were
    trained with other settings than the defaults, ``LAYOUT_SETTINGS`` holds these by the name of the layout: other
    settings would load as well and give other features.

    Attributes:
        out_dim: channels of the feature map.
        in_channels: of the clips.
        min_frames: fewest frames of a clip that it accepts.
        min_size: smallest height and width that it accepts, pixels.
        recompute: compute the activations inside of each part anew in the backward pass: less memory, about a third
            more time, the same gradients.
    """

    out_dim: int
    in_channels: int = 3
    min_frames: int = 1
    min_size: int = 1
    recompute: bool = False

    @abstractmethod
    def parts(self) -> Sequence[nn.Module]:
        """Modules that make the feature map of the clips, one after the other; the last gives `out_dim` channels."""

    def forward(self, clips: Tensor) -> Tensor:
        """Feature map (B, out_dim, t, h, w) of clips (B, in_channels, T, H, W).

        Raises:
            InputError: for clips that are smaller than the network can take, or of other channels.
        """
        self.check(clips)
        x = clips
        for part in self.parts():
            x = recomputed(part, x) if self.recompute and self.training and is_grad_enabled() else part(x)
        return x

    def pooled(self, clips: Tensor) -> Tensor:
        """Global average of the feature map, (B, out_dim)."""
        return self.forward(clips).mean(dim=(2, 3, 4))

    def check(self, clips: Tensor) -> None:
        """Refuse clips that do not fit.

        Raises:
            InputError: for clips that are smaller than the network can take, or of other channels.
        """
        name = type(self).__name__
        if clips.ndim != 5 or clips.shape[1] != self.in_channels:
            raise InputError(f"{name} takes clips (B, {self.in_channels}, T, H, W), got {tuple(clips.shape)}")
        frames, height, width = clips.shape[2:]
        if frames < self.min_frames or min(height, width) < self.min_size:
            raise InputError(
                f"{name} needs clips of at least {self.min_frames} frames of {self.min_size} x {self.min_size} pixels, "
                f"got {frames} frames of {width} x {height}; give longer or larger clips, or another backbone"
            )
