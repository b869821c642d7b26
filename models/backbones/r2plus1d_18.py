"""R(2+1)D-18 as torchvision's ``r2plus1d_18`` has it, for its published weights.

Tran et al., "A Closer Look at Spatiotemporal Convolutions" (arXiv 1711.11248). It differs from `r21d` in three places:
both convolutions of a block have the middle channels of its first, shortcuts are not split, and the stem has 45 middle
channels of 64.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.backbones._initial import draw_he
from models.backbones._residual import (
    Conv2Plus1d,
    ResidualBlock,
    ResidualNetwork,
    projection,
    published_name,
    resnet_block,
)


class R2Plus1D18(ResidualNetwork):
    """R(2+1)D-18 with batch norm; 31,300,125 parameters at width 64.

    A clip of T x S x S pixels gives (8 width, T/8, S/16, S/16), halves rounded up; any size will do. Convolutions are
    drawn normal with variance 2 / fan out, as torchvision draws them.

    Args:
        layers: residual blocks of the four stages.
        width: channels of the first stage; later stages have 2, 4 and 8 times as many.
    """

    def __init__(self, layers: Sequence[int] = (2, 2, 2, 2), width: int = 64) -> None:
        super().__init__(_first, _block, layers=layers, width=width)
        draw_he(self)


def _first(width: int) -> Conv2Plus1d:
    return Conv2Plus1d(3, max(45 * width // 64, 1), width, kernel=(3, 7, 7), stride=(1, 2, 2))


def _block(in_channels: int, out_channels: int, stride: int) -> ResidualBlock:
    middle = 27 * in_channels * out_channels // (9 * in_channels + 3 * out_channels)
    return ResidualBlock(
        Conv2Plus1d(in_channels, middle, out_channels, stride=(stride, stride, stride)),
        Conv2Plus1d(out_channels, middle, out_channels),
        nn.Identity() if stride == 1 else projection(in_channels, out_channels, stride),
        channels=out_channels,
    )


_STEM = {"0.spatial": "stem.0", "0.norm": "stem.1", "0.temporal": "stem.3", "1": "stem.4"}
_BLOCK_PARTS = {
    "conv1.spatial": "conv1.0.0",
    "conv1.norm": "conv1.0.1",
    "conv1.temporal": "conv1.0.3",
    "norm1": "conv1.1",
    "conv2.spatial": "conv2.0.0",
    "conv2.norm": "conv2.0.1",
    "conv2.temporal": "conv2.0.3",
    "norm2": "conv2.1",
    "shortcut.0": "downsample.0",
    "shortcut.1": "downsample.1",
}


def torchvision_key(key: str) -> str:
    """Name that torchvision gives to an entry of this network's state dict.

    >>> torchvision_key("stages.1.0.conv2.temporal.weight")
    'layer2.0.conv2.0.3.weight'
    """
    return published_name(key, stem=_STEM, block=resnet_block, parts=_BLOCK_PARTS)


LAYOUTS = {"torchvision": torchvision_key}
