"""R(2+1)D: R3D with every convolution split into one over the picture and one over time.

Tran et al., "A Closer Look at Spatiotemporal Convolutions" (arXiv 1711.11248), in the form that IIC and DualVar
(``models/r21d.py``), VTDL (``r2p1d``) and CSTP (``r21d``) train. torchvision's `r2plus1d_18` splits otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.backbones._initial import Release, draw_as
from models.backbones._residual import Conv2Plus1d, ResidualBlock, ResidualNetwork, iic_block, published_name


class R21D(ResidualNetwork):
    """R(2+1)D with batch norm; 14,365,303 parameters at width 64 with one block a stage, 33,178,423 with two.

    A clip of T x S x S pixels gives (8 width, T/8, S/16, S/16), halves rounded up; any size will do. The shortcuts are
    split too (with a ReLU inside), as in the releases. VTDL pretrains one block a stage and fine-tunes two, the second
    from random weights: here one network does both.

    Args:
        layers: residual blocks of the four stages.
        width: channels of the first stage; later stages have 2, 4 and 8 times as many.
        legacy_init: draw the first weights as that release does (CSTP: scales of batch norms around 0), instead of as
            PyTorch does.
    """

    def __init__(
        self, layers: Sequence[int] = (1, 1, 1, 1), width: int = 64, legacy_init: Release | None = None
    ) -> None:
        super().__init__(_first, _block, layers=layers, width=width)
        draw_as(legacy_init, self)


def middle_channels(in_channels: int, out_channels: int, kernel: tuple[int, int, int] = (3, 3, 3)) -> int:
    """Channels between the halves of a split convolution that has at most the parameters of the full one.

    Section 3.5 of the paper, taken for each convolution by itself: ``kt kh kw in out / (kh kw in + kt out)``, floored.
    """
    kt, kh, kw = kernel
    return kt * kh * kw * in_channels * out_channels // (kh * kw * in_channels + kt * out_channels)


def _split(
    in_channels: int, out_channels: int, *, kernel: tuple[int, int, int] = (3, 3, 3), stride: tuple[int, int, int]
) -> Conv2Plus1d:
    middle = max(middle_channels(in_channels, out_channels, kernel), 1)
    return Conv2Plus1d(in_channels, middle, out_channels, kernel=kernel, stride=stride)


def _first(width: int) -> Conv2Plus1d:
    return _split(3, width, kernel=(3, 7, 7), stride=(1, 2, 2))


def _block(in_channels: int, out_channels: int, stride: int) -> ResidualBlock:
    return ResidualBlock(
        _split(in_channels, out_channels, stride=(stride, stride, stride)),
        _split(out_channels, out_channels, stride=(1, 1, 1)),
        nn.Identity() if stride == 1 else _shortcut(in_channels, out_channels, stride),
        channels=out_channels,
    )


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    conv = _split(in_channels, out_channels, kernel=(1, 1, 1), stride=(stride, stride, stride))
    return nn.Sequential(conv, nn.BatchNorm3d(out_channels))


def _split_names(ours: str, theirs: str) -> dict[str, str]:
    names = {"spatial": "spatial_conv", "norm": "bn", "temporal": "temporal_conv"}
    return {f"{ours}.{half}": f"{theirs}.{name}" for half, name in names.items()}


_STEM = _split_names("0", "conv1") | {"1": "bn1"}
_BLOCK_PARTS = (
    _split_names("conv1", "conv1")
    | _split_names("conv2", "conv2")
    | _split_names("shortcut.0", "downsampleconv")
    | {"norm1": "bn1", "norm2": "bn2", "shortcut.1": "downsamplebn"}
)


def iic_key(key: str) -> str:
    """Name that the four releases give to an entry of this network's state dict.

    >>> iic_key("stages.1.0.conv2.norm.running_mean")
    'conv3.block1.conv2.bn.running_mean'
    >>> iic_key("stages.0.2.norm1.bias")
    'conv2.blocks.1.bn1.bias'
    """
    return published_name(key, stem=_STEM, block=iic_block, parts=_BLOCK_PARTS)


LAYOUTS = dict.fromkeys(("iic", "vtdl", "dualvar", "cstp"), iic_key)
