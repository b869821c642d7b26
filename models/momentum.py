"""A second network that follows the first slowly: the key encoder of MoCo, the target of BYOL, VTDL's mean model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class MomentumNetwork(nn.Module):
    """A copy of a network whose parameters are a moving average of that network's; it gets no gradient.

    Its batch norms follow the mode of the method (in training they use the statistics of their own batches and keep
    their own running ones), as in the releases of MoCo, BYOL, VTDL, DualVar and CSTP.

    Args:
        network: the one that is followed.
        momentum: share of the old value in the new one.
    """

    def __init__(self, network: nn.Module, *, momentum: float) -> None:
        super().__init__()
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum {momentum} must lie in [0, 1]")
        self.momentum = momentum
        self.network = copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the network gives, without a graph."""
        return self.network(*inputs)

    @torch.no_grad()
    def follow(self, network: nn.Module, momentum: float | None = None) -> None:
        """Move the parameters towards those of the network; buffers stay.

        Args:
            network: of the same architecture.
            momentum: of this update, for schedules; None for the one given at the start.
        """
        share = 1.0 - (self.momentum if momentum is None else momentum)
        for ours, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            ours.lerp_(theirs, share)

    @torch.no_grad()
    def distance(self, network: nn.Module) -> Tensor:
        """Norm of the difference of the parameters over the norm of the network's, ()."""
        pairs = list(zip(self.network.parameters(), network.parameters(), strict=True))
        apart = torch.stack([(one - other).square().sum() for one, other in pairs]).sum()
        return (apart / torch.stack([other.square().sum() for _, other in pairs]).sum()).sqrt()
