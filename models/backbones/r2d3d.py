"""R2D3D: a residual network of two-dimensional blocks, of which the deep one gives its late blocks a look over time.

Depth 18 is DualVar's ``r2d3d18`` (from DPC: Han et al., arXiv 1909.04656); depth 50 is CoCLR's ``r2d3d50``, the network
of CVRL (Qian et al., arXiv 2008.03800). DualVar's own ``r50`` cannot be constructed and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from models.backbone import Backbone
from models.backbones._initial import draw_he
from models.backbones._residual import published_name, resnet_block, stem


@dataclass(frozen=True)
class _Design:
    """What a depth stands for."""

    stem_frames: int
    """Frames that the stem looks at."""
    stem_stride: int
    """Of the stem in time; no other layer has one."""
    blocks: Sequence[int]
    """Of the four stages."""
    multiples: Sequence[int]
    """Channels inside of the stages' blocks, in widths."""
    expansion: int
    """Channels out of a block, in channels inside of it."""
    block_frames: Sequence[int]
    """Frames that the stages' blocks look at."""
    has_last_relu: bool
    """Whether the feature map has passed a ReLU."""


_DESIGNS = {
    18: _Design(1, 1, (2, 2, 2, 2), (1, 2, 4, 4), 1, (1, 1, 1, 1), False),
    50: _Design(5, 2, (3, 4, 6, 3), (1, 2, 4, 8), 4, (1, 1, 3, 3), True),
}


class R2D3D(Backbone):
    """R2D3D-18 or -50; 5,210,176 and 31,672,128 parameters at width 64.

    A clip of T x S x S pixels gives (4 width, T, S/32, S/32) with depth 18, (32 width, T/2, S/32, S/32) with depth 50,
    halves rounded up; any size will do. Depth 18 looks at single frames throughout, and its feature map has negative
    values: as in the release, no ReLU follows the last block. Weights are drawn normal with variance 2 / fan out, as
    in both releases.

    Args:
        depth: 18 (basic blocks) or 50 (bottlenecks, over three frames each in the last two stages).
        width: channels of the stem; all others keep their proportion to it.
    """

    def __init__(self, depth: Literal[18, 50] = 18, width: int = 64) -> None:
        super().__init__()
        if depth not in _DESIGNS or width < 1:
            raise ValueError(f"R2D3D needs depth 18 or 50 and width >= 1, got depth {depth}, width {width}")
        design = _DESIGNS[depth]
        self.out_dim = width * design.multiples[-1] * design.expansion
        frames = design.stem_frames
        conv = nn.Conv3d(3, width, (frames, 7, 7), (design.stem_stride, 2, 2), (frames // 2, 3, 3), bias=False)
        self.stem = stem(conv, width, nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)))
        self.stages = nn.Sequential()
        channels = width
        for stage, blocks in enumerate(design.blocks):
            inner = width * design.multiples[stage]
            self.stages.append(_stage(channels, inner, blocks, design, stage))
            channels = inner * design.expansion
        draw_he(self)

    def parts(self) -> Sequence[nn.Module]:
        """The stem and the four stages."""
        return self.stem, *self.stages


class FrameBlock(nn.Module):
    """Convolutions of single frames or, in a bottleneck, of a few frames one after the other, beside a shortcut.

    Args:
        in_channels: of the input.
        channels: inside of the block.
        expansion: 1 for two 1x3x3 convolutions; more for a bottleneck of one over time, one over the picture and one
            that gives as many times `channels`.
        frames: over which the first convolution of a bottleneck looks, odd.
        stride: of the block in height and width.
        has_relu: whether a ReLU follows the sum.
    """

    def __init__(
        self, in_channels: int, channels: int, *, expansion: int, frames: int, stride: int, has_relu: bool
    ) -> None:
        super().__init__()
        out_channels = channels * expansion
        if expansion == 1:
            convolutions = _over_picture(in_channels, channels, stride), _over_picture(channels, channels, 1)
        else:
            convolutions = (
                nn.Conv3d(in_channels, channels, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False),
                _over_picture(channels, channels, stride),
                nn.Conv3d(channels, out_channels, 1, bias=False),
            )
        self.layers = nn.Sequential()
        for conv in convolutions:
            self.layers.extend([conv, nn.BatchNorm3d(conv.out_channels), nn.ReLU(inplace=True)])
        self.layers.pop(-1)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, stride=(1, stride, stride), bias=False),
                nn.BatchNorm3d(out_channels),
            )
        )
        self.relu = nn.ReLU(inplace=True) if has_relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, t, h, w) to (B, channels * expansion, t, h/stride, w/stride), halves rounded up."""
        return self.relu(self.layers(x) + self.shortcut(x))


def _over_picture(in_channels: int, out_channels: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(in_channels, out_channels, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False)


def _stage(in_channels: int, channels: int, blocks: int, design: _Design, stage: int) -> nn.Sequential:
    made = nn.Sequential()
    for block in range(blocks):
        made.append(
            FrameBlock(
                in_channels if block == 0 else channels * design.expansion,
                channels,
                expansion=design.expansion,
                frames=design.block_frames[stage],
                stride=2 if stage > 0 and block == 0 else 1,
                has_relu=design.has_last_relu or stage < 3 or block < blocks - 1,
            )
        )
    return made


_BLOCK_PARTS = {
    "layers.0": "conv1",
    "layers.1": "bn1",
    "layers.3": "conv2",
    "layers.4": "bn2",
    "layers.6": "conv3",
    "layers.7": "bn3",
    "shortcut.0": "downsample.0",
    "shortcut.1": "downsample.1",
}


def dualvar_key(key: str) -> str:
    """Name that the releases of DualVar and CoCLR give to an entry of this network's state dict.

    >>> dualvar_key("stages.1.0.layers.4.bias")
    'layer2.0.bn2.bias'
    """
    return published_name(key, stem={"0": "conv1", "1": "bn1"}, block=resnet_block, parts=_BLOCK_PARTS)


LAYOUTS = {"dualvar": dualvar_key, "coclr": dualvar_key}
