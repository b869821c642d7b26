"""Random decisions inside a method that follow from the seed and the number of the step, and so survive a restart."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class StepGenerator(nn.Module):
    """Gives each step a generator of its own, in the same state on all ranks.

    Args:
        seed: of all steps.

    Attributes:
        step: finished steps, () int64; in checkpoints.
    """

    step: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        # The same number on the host: reading the buffer would wait for the device in every step.
        self._host_step: int | None = 0
        self.register_load_state_dict_post_hook(_forget)

    def generator(self) -> torch.Generator:
        """The generator of this step, on the CPU; every call gives it in its first state."""
        if self._host_step is None:
            self._host_step = int(self.step)
        state = np.random.SeedSequence([self.seed, self._host_step]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state >> np.uint64(1)))

    def advance(self) -> None:
        """Go on to the next step."""
        self.step += 1
        if self._host_step is not None:
            self._host_step += 1


def _forget(module: nn.Module, _: Any) -> None:
    assert isinstance(module, StepGenerator)
    module._host_step = None
