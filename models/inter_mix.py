"""Stills that the videos of a global batch give each other: VTDL's inter-video mixing.

Who gives to whom follows from a number that each sample's plan holds, so it is the same for any number of ranks, and
only single frames travel. N samples of all ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.gather import gather_rows, own_rows


def partners(places: Tensor) -> Tensor:
    """Whose still each sample gets, (N,) int64: a permutation, any one equally likely; a sample may get its own.

    Args:
        places: (N,) float, uniform and independent.
    """
    return places.argsort(stable=True)


@torch.no_grad()
def received_stills(stills: Tensor, places: Tensor, weight: Tensor, *, reuse_mixed: bool = False) -> Tensor:
    """The still (b, C, H, W) that each sample of this rank gets from its partner in the global batch.

    Args:
        stills: (b, C, H, W), the frame that each sample gives.
        places: (b,) float, uniform and independent, see `partners`.
        weight: (b,) float, of the still that a sample gets.
        reuse_mixed: as the release, which mixes in place from the first sample to the last: a partner that comes
            earlier gives its frame with a still already in it.
    """
    partner, given = partners(gather_rows(places)), gather_rows(stills)
    if not reuse_mixed:
        return given[partner[own_rows(given)]]
    weights, current, received = gather_rows(weight).to(given.dtype), given.clone(), torch.empty_like(given)
    for sample in range(len(given)):
        received[sample] = current.index_select(0, partner[sample : sample + 1])[0]
        current[sample] = torch.lerp(given[sample], received[sample], weights[sample])
    return received[own_rows(given)]
