"""Samples exchanged between ranks before a network and brought back after it, so that batch norms tell nothing.

"Shuffling BN" of He et al., "Momentum Contrast" (arXiv 1911.05722), section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from models.gather import gather_rows, own_rows, rank, world_size


class Shuffling(nn.Module):
    """`shuffled` with another order in every call, the same on all ranks and after a resume.

    The calls are counted on the host: a buffer would have to be read from the GPU in every step. The count is extra
    state of the module, so part of every checkpoint.

    Args:
        seed: of the orders.

    Attributes:
        num_calls: so far.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed, self.num_calls = seed, 0

    @torch.no_grad()
    def forward(self, network: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
        """Output (b, D) of a network for clips (b, ...), computed among samples of other ranks; without gradient."""
        mixed = np.random.SeedSequence([self._seed, self.num_calls]).generate_state(1)
        self.num_calls += 1
        return shuffled(network, clips, generator=torch.Generator().manual_seed(int(mixed[0])))

    def get_extra_state(self) -> Tensor:
        """What a checkpoint keeps: the number of calls, () int64."""
        return torch.tensor(self.num_calls)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on behind so many calls."""
        self.num_calls = int(state)


@torch.no_grad()
def shuffled(network: Callable[[Tensor], Tensor], clips: Tensor, *, generator: torch.Generator) -> Tensor:
    """Output of a network for clips (b, ...) that was computed among samples of other ranks; without gradient.

    In one process the network sees the clips as they are.

    Args:
        network: (b, ...) to (b, D).
        clips: of this rank; b must be the same on all ranks.
        generator: on the CPU, in the same state on all ranks; each call takes one permutation from it.
    """
    ranks = world_size()
    order = torch.randperm(ranks * len(clips), generator=generator)
    if ranks == 1:
        return network(clips)
    # Position p of the shuffled global batch holds sample order[p]; rank r works on positions r b .. (r + 1) b - 1.
    features = gather_rows(network(_exchanged(clips, order)))
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return features[back.to(features.device)][own_rows(features)]


def _exchanged(clips: Tensor, order: Tensor) -> Tensor:
    """The samples at this rank's positions of the order; only they travel."""
    size, ranks, me = len(clips), world_size(), rank()
    owner, positions = order // size, order.view(ranks, size)
    # To each rank, in the order of its positions, what it needs of mine.
    wanted = [positions[other][owner.view(ranks, size)[other] == me] - me * size for other in range(ranks)]
    mine = positions[me]
    received = [int((mine // size == other).sum()) for other in range(ranks)]
    outgoing = clips[torch.cat(wanted).to(clips.device)].contiguous()
    incoming = torch.empty_like(outgoing)
    dist.all_to_all_single(incoming, outgoing, received, [len(part) for part in wanted])
    place = torch.argsort(mine // size, stable=True)
    result = torch.empty_like(incoming)
    result[place.to(clips.device)] = incoming
    return result
