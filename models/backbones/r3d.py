"""R3D: a residual network of full 3-D convolutions, one block a stage by default (a 10-layer network, not R3D-18).

Tran et al., "A Closer Look at Spatiotemporal Convolutions" (arXiv 1711.11248), in the form that IIC and DualVar train
(their ``models/r3d.py``): no bottlenecks, no max pooling, convolutions without bias.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.backbones._residual import ResidualNetwork, full_block, full_first, iic_block, published_name


class R3D(ResidualNetwork):
    """R3D with batch norm; 14,361,792 parameters at width 64 with one block a stage.

    A clip of T x S x S pixels gives (8 width, T/8, S/16, S/16), halves rounded up; any size will do. Weights are drawn
    as PyTorch draws them, which is what both releases do.

    Args:
        layers: residual blocks of the four stages; (2, 2, 2, 2) is the network of torchvision's ``r3d_18``.
        width: channels of the first stage; later stages have 2, 4 and 8 times as many.
    """

    def __init__(self, layers: Sequence[int] = (1, 1, 1, 1), width: int = 64) -> None:
        super().__init__(full_first, full_block, layers=layers, width=width)


_BLOCK_PARTS = {
    "conv1": "conv1.temporal_spatial_conv",
    "conv2": "conv2.temporal_spatial_conv",
    "norm1": "bn1",
    "norm2": "bn2",
    "shortcut.0": "downsampleconv.temporal_spatial_conv",
    "shortcut.1": "downsamplebn",
}


def iic_key(key: str) -> str:
    """Name that the releases of IIC and DualVar give to an entry of this network's state dict.

    >>> iic_key("stages.1.0.shortcut.0.weight")
    'conv3.block1.downsampleconv.temporal_spatial_conv.weight'
    """
    return published_name(
        key, stem={"0": "conv1.temporal_spatial_conv", "1": "bn1"}, block=iic_block, parts=_BLOCK_PARTS
    )


LAYOUTS = {"iic": iic_key, "dualvar": iic_key}
