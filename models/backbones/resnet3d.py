"""3D ResNet-18 and -34: the residual network carried over to three dimensions, with max pooling after a 7x7x7 stem.

Hara et al., "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?" (arXiv 1711.09577), in the form
that VTDL (``r3d``) and CSTP (``r3d_byol``, ``model_depth`` 18 or 34) train. IIC's R3D is another network: see `r3d`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from models.backbones._initial import Release, draw_as, draw_he
from models.backbones._residual import (
    ResidualBlock,
    ResidualNetwork,
    full_block,
    full_convolutions,
    published_name,
    resnet_block,
)


class ResNet3D(ResidualNetwork):
    """3D ResNet of basic blocks; 33,203,904 parameters at width 64 with two blocks a stage.

    A clip of T x S x S pixels gives (8 width, T/16, S/32, S/32), halves rounded up; any size will do. The bottleneck
    networks of the paper (50 layers and more) are left out: both releases take 512 features for granted.

    Args:
        layers: residual blocks of the four stages: (1, 1, 1, 1) for depth 10, (2, 2, 2, 2) for 18, (3, 4, 6, 3) for 34.
        width: channels of the first stage; later stages have 2, 4 and 8 times as many.
        shortcut: where a block halves, a 1x1x1 convolution with batch norm (B, which both releases train), or every
            second position with zeros for the new channels (A, without parameters).
        legacy_init: draw the first weights as that release does (CSTP: scales of batch norms around 0), instead of
            normal with variance 2 / fan out.
    """

    def __init__(
        self,
        layers: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        shortcut: Literal["A", "B"] = "B",
        legacy_init: Release | None = None,
    ) -> None:
        if shortcut not in ("A", "B"):
            raise ValueError(f"shortcut is 'A' or 'B', got {shortcut!r}")
        block = full_block if shortcut == "B" else _padded_block
        super().__init__(_first, block, nn.MaxPool3d(3, stride=2, padding=1), layers=layers, width=width)
        draw_he(self)
        draw_as(legacy_init, self)


class PaddedShortcut(nn.Module):
    """Every `stride`-th position, with zeros for the channels that are new."""

    def __init__(self, new_channels: int, *, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, t, h, w) to (B, C + new_channels, t/stride, h/stride, w/stride), halves rounded up."""
        step = self.stride
        return functional.pad(x[:, :, ::step, ::step, ::step], (0, 0, 0, 0, 0, 0, 0, self.new_channels))


def _first(width: int) -> nn.Conv3d:
    return nn.Conv3d(3, width, 7, stride=(1, 2, 2), padding=3, bias=False)


def _padded_block(in_channels: int, out_channels: int, stride: int) -> ResidualBlock:
    return ResidualBlock(
        *full_convolutions(in_channels, out_channels, stride),
        nn.Identity() if stride == 1 else PaddedShortcut(out_channels - in_channels, stride=stride),
        channels=out_channels,
    )


_BLOCK_PARTS = {
    "conv1": "conv1",
    "conv2": "conv2",
    "norm1": "bn1",
    "norm2": "bn2",
    "shortcut.0": "downsample.0",
    "shortcut.1": "downsample.1",
}


def vtdl_key(key: str) -> str:
    """Name that the releases of VTDL and CSTP give to an entry of this network's state dict.

    >>> vtdl_key("stages.1.0.shortcut.1.weight")
    'layer2.0.downsample.1.weight'
    """
    return published_name(key, stem={"0": "conv1", "1": "bn1"}, block=resnet_block, parts=_BLOCK_PARTS)


LAYOUTS = {"vtdl": vtdl_key, "cstp": vtdl_key}
