"""C3D with batch norm: eight 3x3x3 convolutions and four max poolings, without the fully connected layers.

Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks" (arXiv 1412.0767), in the form that IIC,
DualVar, VTDL and CSTP train (their ``c3d.py``): a batch norm after every convolution, no fifth pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from models.backbone import Backbone
from models.backbones._initial import draw_as

_FACTORS = (1, 2, 4, 4, 8, 8, 8, 8)


class C3D(Backbone):
    """C3D with batch norm; 27,661,440 parameters at width 64.

    A clip of T x S x S pixels gives (8 width, T/8, S/16, S/16), halves rounded down, so 8 frames of 16 x 16 pixels are
    the least. The convolutions keep the biases of the releases, though the batch norms behind them take them out again.

    Args:
        width: channels of the first stage; later stages have 2, 4, 8 and 8 times as many.
        legacy_init: draw the first weights as CSTP's release does (scales of batch norms around 0), instead of as
            PyTorch does. VTDL's own drawing stops at the biases of this network.
    """

    min_frames = 8
    min_size = 16

    def __init__(self, width: int = 64, legacy_init: Literal["cstp"] | None = None) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"C3D needs a width >= 1, got {width}")
        if legacy_init not in (None, "cstp"):
            raise ValueError(f"legacy_init of C3D is 'cstp' or null, got {legacy_init!r}")
        self.out_dim = 8 * width
        channels = [3, *(factor * width for factor in _FACTORS)]
        units = [_unit(inside, outside) for inside, outside in pairwise(channels)]
        self.stages = nn.Sequential(
            nn.Sequential(units[0], nn.MaxPool3d((1, 2, 2))),
            nn.Sequential(units[1], nn.MaxPool3d(2)),
            nn.Sequential(*units[2:4], nn.MaxPool3d(2)),
            nn.Sequential(*units[4:6], nn.MaxPool3d(2)),
            nn.Sequential(*units[6:8]),
        )
        draw_as(legacy_init, self)

    def parts(self) -> Sequence[nn.Module]:
        """The five stages, of one or two convolutions and the pooling after them."""
        return tuple(self.stages)


def _unit(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.Conv3d(in_channels, out_channels, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm3d(out_channels), nn.ReLU(inplace=True))


def iic_key(key: str) -> str:
    """Name that the four releases give to an entry of this network's state dict.

    >>> iic_key("stages.1.0.0.weight"), iic_key("stages.4.1.1.running_var")
    ('conv2.weight', 'bn5b.running_var')
    """
    _, stage, unit, module, tensor = key.split(".")
    letter = "" if int(stage) < 2 else "ab"[int(unit)]
    return f"{('conv', 'bn')[int(module)]}{int(stage) + 1}{letter}.{tensor}"


LAYOUTS = dict.fromkeys(("iic", "vtdl", "dualvar", "cstp"), iic_key)
