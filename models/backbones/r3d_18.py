"""R3D-18: two blocks a stage of full 3-D convolutions, with the weights and names of torchvision's ``r3d_18``.

Tran et al., "A Closer Look at Spatiotemporal Convolutions" (arXiv 1711.11248). IIC reports results for a "Res18-3D"
whose code was never published; the same authors' later code takes this network for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.backbones._initial import draw_he
from models.backbones._residual import ResidualNetwork, full_block, full_first, published_name, resnet_block


class R3D18(ResidualNetwork):
    """R3D-18 with batch norm; 33,166,272 parameters at width 64.

    A clip of T x S x S pixels gives (8 width, T/8, S/16, S/16), halves rounded up; any size will do. Convolutions are
    drawn normal with variance 2 / fan out, as torchvision draws them.

    Args:
        layers: residual blocks of the four stages.
        width: channels of the first stage; later stages have 2, 4 and 8 times as many.
    """

    def __init__(self, layers: Sequence[int] = (2, 2, 2, 2), width: int = 64) -> None:
        super().__init__(full_first, full_block, layers=layers, width=width)
        draw_he(self)


_BLOCK_PARTS = {
    "conv1": "conv1.0",
    "norm1": "conv1.1",
    "conv2": "conv2.0",
    "norm2": "conv2.1",
    "shortcut.0": "downsample.0",
    "shortcut.1": "downsample.1",
}


def torchvision_key(key: str) -> str:
    """Name that torchvision gives to an entry of this network's state dict.

    >>> torchvision_key("stages.1.0.norm2.weight")
    'layer2.0.conv2.1.weight'
    """
    return published_name(key, stem={"0": "stem.0", "1": "stem.1"}, block=resnet_block, parts=_BLOCK_PARTS)


LAYOUTS = {"torchvision": torchvision_key, "iic": torchvision_key}
