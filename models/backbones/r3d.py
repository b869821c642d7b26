"""R3D: a residual network of full 3-D convolutions, one block a stage by default (a 10-layer network, not R3D-18).

Tran et al., "A Closer Look at Spatiotemporal Convolutions" (arXiv 1711.11248), in the form that IIC and DualVar train
(their ``models/r3d.py``): no bottlenecks, no max pooling, convolutions without bias.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.backbone import Backbone


class R3D(Backbone):
    """R3D with BatchNorm; 14,361,792 parameters at width 64 with one block a stage.

    A clip of T x S x S pixels gives (8 width, T/8, S/16, S/16), halves rounded up.

    Args:
        layers: residual blocks of the four stages.
        width: channels of the first stage; later stages have 2, 4 and 8 times as many.
    """

    def __init__(self, layers: Sequence[int] = (1, 1, 1, 1), width: int = 64) -> None:
        super().__init__()
        if len(layers) != 4 or min(layers) < 1 or width < 1:
            raise ValueError(f"R3D needs four stages of at least one block and width >= 1, got {layers}, width {width}")
        self.out_dim = 8 * width
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        channels = [width, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.Sequential(
            *(
                _stage(channels[stage], channels[stage + 1], blocks, stride=1 if stage == 0 else 2)
                for stage, blocks in enumerate(layers)
            )
        )

    def parts(self) -> Sequence[nn.Module]:
        """The stem and the four stages."""
        return self.stem, *self.stages


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with a shortcut; the first may halve time and space."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm3d(out_channels)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = (
            nn.Sequential(nn.Conv3d(in_channels, out_channels, 1, stride=2, bias=False), nn.BatchNorm3d(out_channels))
            if stride != 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, t, h, w) to (B, C', t/stride, h/stride, w/stride)."""
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return self.relu(out + self.shortcut(x))


def _stage(in_channels: int, out_channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    rest = (ResidualBlock(out_channels, out_channels, stride=1) for _ in range(blocks - 1))
    return nn.Sequential(ResidualBlock(in_channels, out_channels, stride=stride), *rest)


_BLOCK_PARTS = {
    "conv1": "conv1.temporal_spatial_conv",
    "conv2": "conv2.temporal_spatial_conv",
    "norm1": "bn1",
    "norm2": "bn2",
    "shortcut.0": "downsampleconv.temporal_spatial_conv",
    "shortcut.1": "downsamplebn",
}


def iic_key(key: str) -> str:
    """Name that IIC's release gives to an entry of this network's state dict.

    >>> iic_key("stages.1.0.shortcut.0.weight")
    'conv3.block1.downsampleconv.temporal_spatial_conv.weight'
    """
    module, _, tensor = key.rpartition(".")
    if module.startswith("stem."):
        return {"stem.0": "conv1.temporal_spatial_conv", "stem.1": "bn1"}[module] + f".{tensor}"
    _, stage, block, part = module.split(".", 3)
    place = "block1" if block == "0" else f"blocks.{int(block) - 1}"
    return f"conv{int(stage) + 2}.{place}.{_BLOCK_PARTS[part]}.{tensor}"


LAYOUTS = {"iic": iic_key}
