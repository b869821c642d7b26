"""How the first weights of backbones are drawn, by us and by the releases of CSTP (heads too) and VTDL."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

Release = Literal["cstp", "vtdl"]


def draw_as(release: Release | None, network: nn.Module) -> None:
    """Draw the weights of the convolutions and batch norms anew as that release does; None leaves them as they are.

    ``cstp``: every convolution, every linear layer *and every scale of a batch norm* uniform in +-sqrt(6 / (fan in +
    fan out)), where both fans of n scales are floor(n / 2): scales of either sign around 0. ``vtdl``: convolutions
    Xavier uniform with gain sqrt(2), scales of batch norms normal around 1 with deviation 0.02, shifts 0. Both leave
    biases as PyTorch draws them. Random numbers come from PyTorch's generator, as those of every new module.
    """
    if release is None:
        return
    if release not in ("cstp", "vtdl"):
        raise ValueError(f"legacy_init is 'cstp', 'vtdl' or null, got {release!r}")
    for module in network.modules():
        if isinstance(module, nn.Conv3d) or (isinstance(module, nn.Linear) and release == "cstp"):
            nn.init.xavier_uniform_(module.weight, gain=1.0 if release == "cstp" else math.sqrt(2))
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d) and release == "cstp":
            bound = math.sqrt(6 / (2 * max(module.num_features // 2, 1)))
            nn.init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def draw_he(network: nn.Module) -> None:
    """Draw convolutions normal with variance 2 / fan out (He et al., arXiv 1502.01852); norms and biases stay."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
