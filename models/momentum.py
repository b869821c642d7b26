"""A second network that follows the first slowly: the key encoder of MoCo, the target of BYOL, VTDL's mean model."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from data_process.errors import InputError

MomentumSchedule = Literal["constant", "cosine"]
"""How the share of the old value changes over a run: not at all, or to 1 at its end, see `RisingMomentum`."""


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
    def follow(self, network: nn.Module, momentum: float | Tensor | None = None) -> None:
        """Move the parameters towards those of the network; buffers stay.

        Args:
            network: of the same architecture.
            momentum: of this update, for schedules, a tensor () too; None for the one given at the start.
        """
        share = 1.0 - (self.momentum if momentum is None else momentum)
        for ours, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            ours.lerp_(theirs, share.to(ours.dtype) if isinstance(share, Tensor) else share)

    @torch.no_grad()
    def distance(self, network: nn.Module) -> Tensor:
        """Norm of the difference of the parameters over the norm of the network's, ()."""
        pairs = list(zip(self.network.parameters(), network.parameters(), strict=True))
        apart = torch.stack([(one - other).square().sum() for one, other in pairs]).sum()
        return (apart / torch.stack([other.square().sum() for _, other in pairs]).sum()).sqrt()


class RisingMomentum(nn.Module):
    """A momentum that rises along half a cosine, from its first value to 1 at the end of the run.

    ``1 - (1 - start) * (cos(pi k / K) + 1) / 2`` in update k of K, counted from 0 (Grill et al., "Bootstrap Your Own
    Latent", arXiv 2006.07733, section 3.2). The count is a buffer, so a resume goes on where the run was, and stays on
    the device: nothing waits for it.

    Args:
        start: of the first update.
        num_steps: K, updates of the run; 0 where no run is planned, as in evaluation, and none may follow.

    Attributes:
        num_updates: k, () int64.
    """

    num_updates: Tensor

    def __init__(self, start: float, *, num_steps: int) -> None:
        super().__init__()
        self.start, self.num_steps = start, num_steps
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))

    def value(self) -> Tensor:
        """The momentum of the next update, () float64.

        Raises:
            InputError: where the length of the run is not known.
        """
        if self.num_steps < 1:
            raise InputError(
                f"momentum_schedule cosine rises over the run and got {self.num_steps} steps; expected 1 or more: give "
                "DatasetFacts.num_steps, or take momentum_schedule constant"
            )
        progress = (self.num_updates.double() / self.num_steps).clamp(max=1.0)
        return 1.0 - (1.0 - self.start) * (torch.cos(math.pi * progress) + 1.0) / 2.0

    @torch.no_grad()
    def take(self) -> Tensor:
        """`value`, after which the next update is another one."""
        taken = self.value()
        self.num_updates += 1
        return taken
