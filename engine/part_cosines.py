"""How alike the parts of a video are to a network, beside those of different videos.

B videos of N parts each (clips, segments), D features.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def part_cosines(parts: Tensor) -> tuple[Tensor, float]:
    """Cosines (N, N) float64 of the parts of one video with each other, and of parts of two videos; means over videos.

    Args:
        parts: (B, N, D), in the same order for all videos; divided by their lengths here.

    Returns:
        The matrix, symmetric with ones on its diagonal, and the mean over all parts of all pairs of different videos,
        which is not a number for a single video.
    """
    unit = functional.normalize(parts.double(), dim=2)
    within = torch.einsum("bnd,bmd->nm", unit, unit) / len(unit)
    # All pairs of videos are those of the sum with itself, less each video with itself.
    of_videos = unit.sum(dim=1)
    pairs = of_videos.sum(dim=0).square().sum() - of_videos.square().sum()
    count = len(unit) * (len(unit) - 1) * unit.shape[1] ** 2
    return within, float(pairs) / count if count else float("nan")
