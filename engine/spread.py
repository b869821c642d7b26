"""How features of clips scatter: inside of videos, between videos of a class, and between classes.

DualVar's question (arXiv 2107.01194): a contrast of videos alone draws all clips of a video to one point and loses what
changes inside of it.

M clips of N videos, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Spread:
    """Parts of the variance of unit-length features; their sum is the whole of it, at most 1.

    Attributes:
        within_videos: mean squared distance of a clip from the mean of its video.
        between_videos: of a video's mean from that of its class, each clip counted.
        between_classes: of a class's mean from that of all.
    """

    within_videos: float
    between_videos: float
    between_classes: float

    @property
    def total(self) -> float:
        """Mean squared distance of a clip from the mean of all."""
        return self.within_videos + self.between_videos + self.between_classes


def clip_spread(features: Tensor, videos: Tensor, labels: Tensor) -> Spread:
    """The parts for clips of labelled videos.

    Args:
        features: (M, D), divided by their lengths here.
        videos: (M,) int64, whose clip each row is.
        labels: (M,) int64, the class of that video.
    """
    unit = functional.normalize(features.double(), dim=1)
    of_video, of_class, of_all = _means(unit, videos), _means(unit, labels), unit.mean(dim=0)
    return Spread(
        within_videos=_squared(unit, of_video), between_videos=_squared(of_video, of_class),
        between_classes=_squared(of_class, of_all.expand_as(of_class)),
    )  # fmt: skip


def _means(rows: Tensor, groups: Tensor) -> Tensor:
    """For each row the mean of its group."""
    _, place, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), rows.shape[1], dtype=rows.dtype).index_add_(0, place, rows)
    return (sums / counts[:, None])[place]


def _squared(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().sum(dim=1).mean())
