"""The table of layers that the Inception networks share, and where a key of the state dict lies in it.

Szegedy et al., "Going Deeper with Convolutions" (arXiv 1409.4842), with BatchNorm and carried over to video. The layers
have the names of that paper; I3D and S3D differ only in what a convolution and a pool of the table are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.backbone import Backbone

Sides = tuple[int, int, int]

# Outputs of a block's convolutions at width 64 (table 1 of the paper): 1x1x1 | 1x1x1, 3x3x3 | 1x1x1, 3x3x3 | 1x1x1.
MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
STAGES = (
    ("conv_1a",),
    ("pool_2a", "conv_2b", "conv_2c"),
    ("pool_3a", "mixed_3b", "mixed_3c"),
    ("pool_4a", "mixed_4b", "mixed_4c", "mixed_4d", "mixed_4e", "mixed_4f"),
    ("pool_5a", "mixed_5b", "mixed_5c"),
)
_CONVOLUTIONS = {"conv_1a": (64, 7, 2), "conv_2b": (64, 1, 1), "conv_2c": (192, 3, 1)}  # channels, kernel, stride
_POOLS = {
    "pool_2a": ((1, 3, 3), (1, 2, 2)),
    "pool_3a": ((1, 3, 3), (1, 2, 2)),
    "pool_4a": ((3, 3, 3), (2, 2, 2)),
    "pool_5a": ((2, 2, 2), (2, 2, 2)),
}


@dataclass(frozen=True)
class Kinds:
    """What the layers of a network are made of."""

    conv: Callable[[int, int, int, int], nn.Module]
    """Convolution with norm and ReLU, from (channels in, channels out, side of the kernel, stride)."""
    pool: Callable[[Sides, Sides], nn.Module]
    """Max pool, from kernel and stride in t, h, w."""
    gate: Callable[[int], nn.Module] | None = None
    """What ends each branch of a block, from its channels; None for nothing."""


class Inception(Backbone):
    """Five stages of layers as in the table; stage s is ``stages.s``, its layers have their names.

    Args:
        kinds: what the layers are made of.
        width: channels of the first layer; all others keep their proportion to it (64 in the paper), rounded.
    """

    def __init__(self, kinds: Kinds, *, width: int) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"an Inception network needs width >= 1, got {width}")
        self.stages = nn.Sequential()
        channels = self.in_channels
        for names in STAGES:
            layers: dict[str, nn.Module] = {}
            for name in names:
                layers[name], channels = _layer(name, channels, kinds, width)
            self.stages.append(named(**layers))
        self.out_dim = channels

    def parts(self) -> Sequence[nn.Module]:
        """The five stages; all but the first begin with their pool."""
        return tuple(self.stages)


class Mixed(nn.Module):
    """Four branches beside each other, concatenated."""

    def __init__(self, in_channels: int, channels: Sequence[int], kinds: Kinds) -> None:
        super().__init__()
        one, reduced_two, two, reduced_three, three, four = channels
        self.branches = nn.ModuleList(
            [
                named(point=kinds.conv(in_channels, one, 1, 1)),
                named(point=kinds.conv(in_channels, reduced_two, 1, 1), conv=kinds.conv(reduced_two, two, 3, 1)),
                named(point=kinds.conv(in_channels, reduced_three, 1, 1), conv=kinds.conv(reduced_three, three, 3, 1)),
                named(pool=kinds.pool((3, 3, 3), (1, 1, 1)), point=kinds.conv(in_channels, four, 1, 1)),
            ]
        )
        self.out_channels = one + two + three + four
        if kinds.gate is not None:
            for branch, size in zip(self.branches, (one, two, three, four), strict=True):
                branch.add_module("gate", kinds.gate(size))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, t, h, w) to (B, C', t, h, w)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class ConvUnit(nn.Sequential):
    """A convolution without bias, BatchNorm and ReLU; `trailing` zeros more after every axis than before it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Sides,
        stride: Sides,
        padding: Sides,
        *,
        trailing: int = 0,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if trailing:
            self.pad = nn.ConstantPad3d((0, trailing, 0, trailing, 0, trailing), 0.0)
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False)
        self.norm = nn.BatchNorm3d(out_channels, eps=norm_eps, momentum=norm_momentum)
        self.relu = nn.ReLU(inplace=True)


def cube(side: int) -> Sides:
    """The same in t, h and w."""
    return side, side, side


def named(**modules: nn.Module) -> nn.Sequential:
    """The modules one after the other, under their names."""
    return nn.Sequential(OrderedDict(modules))


def _layer(name: str, in_channels: int, kinds: Kinds, width: int) -> tuple[nn.Module, int]:
    """A layer of the table and its number of output channels."""
    if name in _POOLS:
        return kinds.pool(*_POOLS[name]), in_channels
    if name in _CONVOLUTIONS:
        channels, kernel, stride = _CONVOLUTIONS[name]
        out_channels = _scaled(channels, width)
        return kinds.conv(in_channels, out_channels, kernel, stride), out_channels
    block = Mixed(in_channels, [_scaled(channels, width) for channels in MIXED[name.removeprefix("mixed_")]], kinds)
    return block, block.out_channels


def _scaled(channels: int, width: int) -> int:
    return max(1, round(channels * width / 64))


class Place(NamedTuple):
    """Where an entry of the state dict lies: ``stages.2.mixed_3b.branches.1.conv.norm.bias``."""

    layer: str
    """Name in the table."""
    branch: int | None
    """Branch of a block (1 in the example); None in a plain convolution."""
    step: str
    """What of the branch: ``point``, ``conv`` or ``gate``; empty in a plain convolution."""
    inner: str
    """Module inside of that (``norm``)."""
    tensor: str

    @property
    def index(self) -> int:
        """Place of the step in its branch; the pool of the last branch counts."""
        return int(self.step == "conv" or self.branch == 3)


def place(key: str) -> Place:
    """Where a key of an Inception network's state dict lies."""
    _, _, layer, *path, tensor = key.split(".")
    if path[0] != "branches":
        return Place(layer, None, "", ".".join(path), tensor)
    _, branch, step, *inner = path
    return Place(layer, int(branch), step, ".".join(inner), tensor)
