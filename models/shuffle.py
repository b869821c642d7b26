"""Samples exchanged between ranks before a network and brought back after it, so that batch norms tell nothing.

"Shuffling BN" of He et al., "Momentum Contrast" (arXiv 1911.05722), section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch import distributed as dist

from models.gather import gather_rows, own_rows, rank, world_size


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
