"""I3D: the Inception network inflated to three dimensions, padded like TensorFlow's "same".

Carreira and Zisserman, "Quo Vadis, Action Recognition?" (arXiv 1705.07750), in the form that VTDL and CSTP train: the
same network under the same names in both releases, up to what follows the feature map.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from models.backbones._inception import ConvUnit, Inception, Kinds, Sides, cube, place
from models.backbones._initial import Release, draw_as, draw_he


class I3D(Inception):
    """I3D with BatchNorm, without logits; 12,287,264 parameters at width 64.

    A clip of T x S x S pixels gives (16 width, T/8, S/32, S/32): the first half rounded down, the others up, so that
    2 frames of 2 x 2 pixels are the smallest clip. "Same" padding is kept as both releases have it: kernel - stride
    zeros on an axis, the smaller half in front, whatever the size of the input (TensorFlow's depends on it).

    Args:
        width: channels of the first layer; all others keep their proportion to it, rounded.
        legacy_init: draw the first weights as that release does (CSTP: scales of batch norms around 0), instead of
            normal with variance 2 / fan out.
    """

    min_frames = 2
    min_size = 2

    def __init__(self, width: int = 64, legacy_init: Release | None = None) -> None:
        super().__init__(Kinds(_same_conv, SamePool), width=width)
        draw_he(self)
        draw_as(legacy_init, self)


class SamePool(nn.Module):
    """Max pool over clips that are padded with zeros as "same" asks; for maps without negative values.

    Zeros decide nothing there, so that padding is copied in only where a window would otherwise be lost.
    """

    def __init__(self, kernel: Sides, stride: Sides) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.padding = tuple((k - 1) // 2 if s == 1 else 0 for k, s in zip(kernel, stride, strict=True))
        self.trails = tuple(s == 2 and k == 3 for k, s in zip(kernel, stride, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, t, h, w) to (B, C, t/stride, h/stride, w/stride), halves rounded up."""
        lost = [int(trails and size % 2) for trails, size in zip(self.trails, x.shape[2:], strict=True)]
        if any(lost):
            x = functional.pad(x, (0, lost[2], 0, lost[1], 0, lost[0]))
        return functional.max_pool3d(x, self.kernel, self.stride, self.padding, ceil_mode=True)


def same_padding(kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis."""
    total = max(kernel - stride, 0)
    return total // 2, total - total // 2


def _same_conv(in_channels: int, out_channels: int, kernel: int, stride: int) -> ConvUnit:
    before, after = same_padding(kernel, stride)
    return ConvUnit(in_channels, out_channels, cube(kernel), cube(stride), cube(before), trailing=after - before)


_PLAIN_LAYERS = {"conv_1a": "conv3d_1a_7x7", "conv_2b": "conv3d_2b_1x1", "conv_2c": "conv3d_2c_3x3"}


def vtdl_key(key: str) -> str:
    """Name that the releases of VTDL and CSTP give to an entry of this network's state dict.

    >>> vtdl_key("stages.2.mixed_3b.branches.3.point.norm.bias")
    'mixed_3b.branch_3.1.batch3d.bias'
    """
    at = place(key)
    unit = {"conv": "conv3d", "norm": "batch3d"}[at.inner] + f".{at.tensor}"
    if at.branch is None:
        return f"{_PLAIN_LAYERS[at.layer]}.{unit}"
    return f"{at.layer}.branch_{at.branch}" + (f".{at.index}" if at.branch else "") + f".{unit}"


LAYOUTS = {"vtdl": vtdl_key, "cstp": vtdl_key}
