"""A moving average of the trained weights, for evaluation and export; training itself never reads it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from data_process.errors import InputError

_STATISTICS = ("running_mean", "running_var")


class WeightAverages:
    """``average = decay * average + (1 - decay) * weight`` after each step, starting with the weights of the first.

    As `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn`, without its second copy of memories and of
    networks that follow by themselves: averaged are parameters that want a gradient, and the running statistics of norm
    layers that have such parameters.

    Args:
        module: whose weights are averaged.
        decay: share of the old average in the new one.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self._weights, self._decay = averaged_tensors(module), decay
        self._averages: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """After the optimizer's step; costs no waiting."""
        if not self._averages:
            self._averages = {name: weight.detach().clone() for name, weight in self._weights.items()}
            return
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self._averages.values()), [self._weights[name] for name in self._averages], 1.0 - self._decay
        )

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: name in the method's state to average; empty before the first step."""
        return self._averages

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on with a checkpoint's averages; where it has none they start with the next step.

        Raises:
            InputError: for averages of other weights than those of the module.
        """
        weights = self._weights
        if state and state.keys() != weights.keys():
            odd = sorted(state.keys() ^ weights.keys())
            raise InputError(
                f"the checkpoint's averages (train.ema) are of other weights than the method's now: {odd[0]} and "
                f"{len(odd) - 1} more; set the method's settings as before, or start a new run in another folder"
            )
        # In the weights' own layout in memory, as those of the unbroken run.
        self._averages = {name: torch.empty_like(weights[name]).copy_(value) for name, value in state.items()}


def averaged_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that want a gradient and the statistics that go with them, by their names in the state dict."""
    found: dict[str, Tensor] = {}
    for prefix, part in module.named_modules():
        own = {name: one for name, one in part.named_parameters(recurse=False) if one.requires_grad}
        if own:
            own |= {name: one for name, one in part.named_buffers(recurse=False) if name in _STATISTICS}
        found |= {f"{prefix}.{name}" if prefix else name: one for name, one in own.items()}
    return found
