"""DualVar's shuffle-rank task: a segment is closer to its twin in the shuffled clip than to all other segments.

B clips, S segments of a clip, D features of a segment.
Zhang et al., arXiv 2107.01194; the form is that of ``simclr_timeseriesv4`` and ``moco_timeseriesv4`` of its release.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.losses.nt_xent import nt_xent_logits


def in_first_order(segments: Tensor, order: Tensor) -> Tensor:
    """Segments of shuffled clips, brought back to the order of the clips before: place ``order[b, s]`` gets segment s.

    Args:
        segments: (B, S, D).
        order: (B, S) int64, as in `models.views.reorder_chunks`.
    """
    return segments.gather(1, order.argsort(dim=1).unsqueeze(2).expand_as(segments))


def twin_logits(one: Tensor, other: Tensor, theta: float) -> Tensor:
    """Dot products over theta of all 2S segments of two clips with one another, (B, 2S, 2S - 1), column 0 the twin.

    Args:
        one: (B, S, D), of unit length.
        other: the same segments as another clip shows them.
        theta: scale of the margins.
    """
    return nt_xent_logits(torch.stack([one, other], dim=2), theta)


def segment_ranking(logits: Tensor, *, largest_margin: float | None = None) -> Tensor:
    """Mean of log(1 + exp(margin)), the margins being other logits minus the twin's; a scalar.

    Args:
        logits: (..., 2S - 1), column 0 the twin; S at least 2.
        largest_margin: margins above it count as it and give no gradient. The release has 5 (its models on SimCLR):
            at theta 0.05 it does not learn from pairs that are wrong by more than 0.25 in cosine. None for no bound.
    """
    margins = logits[..., 1:] - logits[..., :1]
    return functional.softplus(margins if largest_margin is None else margins.clamp(max=largest_margin)).mean()
