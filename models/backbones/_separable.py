"""S3D with and without gates, and the names that its layers have in the releases.

Xie et al., "Rethinking Spatiotemporal Feature Learning" (arXiv 1712.04851): I3D with every k x k x k convolution taken
apart into one over space and one over time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

from models.backbones._inception import STAGES, ConvUnit, Inception, Kinds, Sides, cube, named, place
from models.backbones._initial import draw_as, draw_he

LegacyInit = Literal["coclr", "cstp"]


class SeparableInception(Inception):
    """S3D (`gating` false) or S3D-G.

    Args:
        gating: end every branch of a block with a `Gate`.
        width: channels of the first layer; all others keep their proportion to it, rounded.
        norm_eps: added to the variance in every BatchNorm.
        norm_momentum: weight of a new batch in the running statistics.
        legacy_init: ``coclr`` draws convolutions normal with deviation 0.01, as CoCLR and DualVar do; ``cstp`` as CSTP
            does, with scales of batch norms around 0; None normal with variance 2 / fan out.
    """

    min_frames = 5
    min_size = 17

    def __init__(
        self, *, gating: bool, width: int, norm_eps: float, norm_momentum: float, legacy_init: LegacyInit | None
    ) -> None:
        if legacy_init not in (None, "coclr", "cstp"):
            raise ValueError(f"legacy_init is 'coclr', 'cstp' or null, got {legacy_init!r}")
        unit = partial(ConvUnit, norm_eps=norm_eps, norm_momentum=norm_momentum)
        super().__init__(Kinds(partial(_separable, unit), _padded_pool, Gate if gating else None), width=width)
        draw_he(self)
        if legacy_init == "coclr":
            _draw_small(self)
        else:
            draw_as(legacy_init, self)


class Gate(nn.Module):
    """Scales each channel by a sigmoid of a linear function of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, t, h, w) to the same shape."""
        return x * self.fc(x.mean(dim=(2, 3, 4))).sigmoid()[:, :, None, None, None]


def _separable(
    unit: Callable[..., ConvUnit], in_channels: int, out_channels: int, kernel: int, stride: int
) -> nn.Module:
    if kernel == 1:
        return unit(in_channels, out_channels, cube(1), cube(stride), cube(0))
    side = kernel // 2
    return named(
        spatial=unit(in_channels, out_channels, (1, kernel, kernel), (1, stride, stride), (0, side, side)),
        temporal=unit(out_channels, out_channels, (kernel, 1, 1), (stride, 1, 1), (side, 0, 0)),
    )


def _padded_pool(kernel: Sides, stride: Sides) -> nn.MaxPool3d:
    return nn.MaxPool3d(kernel, stride, tuple((k - 1) // 2 for k in kernel))


def _draw_small(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.normal_(module.weight, 0.0, 0.01)


_RELEASED_UNITS = {
    "conv": "conv",
    "norm": "bn",
    "spatial.conv": "conv1",
    "spatial.norm": "bn1",
    "temporal.conv": "conv2",
    "temporal.norm": "bn2",
}
_TORCHVISION_UNITS = {
    "conv": "0",
    "norm": "1",
    "spatial.conv": "0.0",
    "spatial.norm": "0.1",
    "temporal.conv": "1.0",
    "temporal.norm": "1.1",
}
_LAYERS = [layer for stage in STAGES for layer in stage]


def released_key(key: str) -> str:
    """Own name that CoCLR, DualVar and CSTP give to an entry; they list it again inside of ``block1`` to ``block5``.

    >>> released_key("stages.3.mixed_4b.branches.1.conv.temporal.norm.bias")
    'Mixed_4b.branch1.1.bn2.bias'
    >>> released_key("stages.3.mixed_4b.branches.1.gate.fc.bias")
    'Mixed_4b.gating_b1.fc.bias'
    """
    at = place(key)
    layer = at.layer.capitalize()
    if at.step == "gate":
        return f"{layer}.gating_b{at.branch}.{at.inner}.{at.tensor}"
    branch = "" if at.branch is None else f"branch{at.branch}.{at.index}."
    return f"{layer}.{branch}{_RELEASED_UNITS[at.inner]}.{at.tensor}"


def torchvision_key(key: str) -> str:
    """Name that torchvision's ``s3d`` (which has no gates) gives to an entry.

    >>> torchvision_key("stages.3.mixed_4b.branches.1.conv.temporal.norm.bias")
    'features.8.branch1.1.1.1.bias'
    """
    at = place(key)
    branch = "" if at.branch is None else f"branch{at.branch}." + (f"{at.index}." if at.branch else "")
    return f"features.{_LAYERS.index(at.layer)}.{branch}{_TORCHVISION_UNITS[at.inner]}.{at.tensor}"
