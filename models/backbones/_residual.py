"""Blocks, stages and key maps of residual networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from models.backbone import Backbone


class ResidualBlock(nn.Module):
    """Two convolutions, each with a batch norm, beside a shortcut; a ReLU after the sum (He et al., arXiv 1512.03385).

    Args:
        conv1: from the channels of the input to `channels`; it may halve time and space.
        conv2: from `channels` to `channels`.
        shortcut: brings the input to the shape of the output.
        channels: of the output.
    """

    def __init__(self, conv1: nn.Module, conv2: nn.Module, shortcut: nn.Module, *, channels: int) -> None:
        super().__init__()
        self.conv1 = conv1
        self.norm1 = nn.BatchNorm3d(channels)
        self.conv2 = conv2
        self.norm2 = nn.BatchNorm3d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, t, h, w) to (B, channels, t/stride, h/stride, w/stride), halves rounded up."""
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return self.relu(out + self.shortcut(x))


class Conv2Plus1d(nn.Module):
    """A 3-D convolution in two: over the picture to `middle` channels, batch norm, ReLU, then over time.

    No norm follows the second (the caller has it). Tran et al., arXiv 1711.11248, figure 2; no biases.

    Args:
        in_channels: of the input.
        middle: channels between the two.
        out_channels: of the output.
        kernel: extent in time, height and width; odd, padded to keep the size.
        stride: in time, height and width.
    """

    def __init__(
        self,
        in_channels: int,
        middle: int,
        out_channels: int,
        *,
        kernel: tuple[int, int, int] = (3, 3, 3),
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        (kt, kh, kw), (st, sh, sw) = kernel, stride
        self.spatial = nn.Conv3d(
            in_channels, middle, (1, kh, kw), stride=(1, sh, sw), padding=(0, kh // 2, kw // 2), bias=False
        )
        self.norm = nn.BatchNorm3d(middle)
        self.relu = nn.ReLU(inplace=True)
        self.temporal = nn.Conv3d(
            middle, out_channels, (kt, 1, 1), stride=(st, 1, 1), padding=(kt // 2, 0, 0), bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, t, h, w) to (B, out_channels, t', h', w'), each size divided by its stride, rounded up."""
        return self.temporal(self.relu(self.norm(self.spatial(x))))


def stem(conv: nn.Module, channels: int, *after: nn.Module) -> nn.Sequential:
    """First convolution of a network with its batch norm and ReLU, and what follows them."""
    return nn.Sequential(conv, nn.BatchNorm3d(channels), nn.ReLU(inplace=True), *after)


class ResidualNetwork(Backbone):
    """A stem and four stages of blocks; the first block of the second, third and fourth halves time and space.

    Args:
        first: makes the first convolution, from 3 to the given channels.
        block: makes one of (channels of the input, channels of the output, stride).
        layers: blocks of the four stages.
        width: channels of the first stage; later stages have 2, 4 and 8 times as many.
        after_stem: what follows the ReLU of the stem.
    """

    def __init__(
        self,
        first: Callable[[int], nn.Module],
        block: Callable[[int, int, int], nn.Module],
        *after_stem: nn.Module,
        layers: Sequence[int],
        width: int,
    ) -> None:
        super().__init__()
        if len(layers) != 4 or min(layers) < 1 or width < 1:
            raise ValueError(
                f"{type(self).__name__} needs four stages of at least one block and width >= 1, "
                f"got layers {tuple(layers)}, width {width}"
            )
        self.out_dim = 8 * width
        self.stem = stem(first(width), width, *after_stem)
        self.stages = nn.Sequential()
        inside = width
        for stage, blocks in enumerate(layers):
            outside = width * 2**stage
            entry = block(inside, outside, 1 if stage == 0 else 2)
            self.stages.append(nn.Sequential(entry, *(block(outside, outside, 1) for _ in range(blocks - 1))))
            inside = outside

    def parts(self) -> Sequence[nn.Module]:
        """The stem and the four stages."""
        return self.stem, *self.stages


def full_first(width: int) -> nn.Conv3d:
    """First convolution of a network that sees three frames at once and halves the picture."""
    return nn.Conv3d(3, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)


def full_block(in_channels: int, out_channels: int, stride: int) -> ResidualBlock:
    """Two 3x3x3 convolutions; where they halve, a 1x1x1 convolution and batch norm is the shortcut."""
    return ResidualBlock(
        *full_convolutions(in_channels, out_channels, stride),
        nn.Identity() if stride == 1 else projection(in_channels, out_channels, stride),
        channels=out_channels,
    )


def full_convolutions(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """The two 3x3x3 convolutions of a block, without bias."""
    return (
        nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False),
    )


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A shortcut that halves: 1x1x1 convolution and batch norm (shortcut B of the residual networks)."""
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm3d(out_channels)
    )


def published_name(
    key: str, *, stem: Mapping[str, str], block: Callable[[int, int], str], parts: Mapping[str, str]
) -> str:
    """Name of an entry of our state dict in a published layout.

    Args:
        key: such as `stem.1.weight` or `stages.0.0.norm2.weight`.
        stem: names of the modules of the stem.
        block: the name of a block of (stage, place in the stage), both from 0.
        parts: names of the modules of a block, after the block's.
    """
    module, _, tensor = key.rpartition(".")
    place, _, inner = module.partition(".")
    if place == "stem":
        return f"{stem[inner]}.{tensor}"
    stage, index, part = inner.split(".", 2)
    return f"{block(int(stage), int(index))}.{parts[part]}.{tensor}"


def iic_block(stage: int, index: int) -> str:
    """Name of a block in the networks that IIC, DualVar, VTDL and CSTP share: the first of a stage stands apart."""
    return f"conv{stage + 2}.block1" if index == 0 else f"conv{stage + 2}.blocks.{index - 1}"


def resnet_block(stage: int, index: int) -> str:
    """Name of a block in torchvision's residual networks, and in those that follow their names."""
    return f"layer{stage + 1}.{index}"
