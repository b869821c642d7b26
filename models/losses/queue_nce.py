"""VTDL's scores: a query against its key, the keys of other videos, and another time of the same video.

B samples, K queued keys, D features. Column 0 is the positive, the last one the same video at another time.
Wang et al., "Self-supervised Temporal Discriminative Learning for Video Representation Learning" (arXiv 2008.02129);
the code's form is `MemoryMoCo` in ``src/NCE/NCEAverage.py`` of its release. The losses of such scores, a cross-entropy
or noise-contrastive estimation, are IIC's: see `cross_view_nce`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def queue_logits(query: Tensor, key: Tensor, queue: Tensor, *, temperature: float) -> Tensor:
    """Dot products over the temperature, (B, 1 + K), of queries (B, D) with their keys (B, D) and a queue (K, D)."""
    positive = (query * key).sum(dim=1, keepdim=True)
    return torch.cat([positive, query @ queue.T], dim=1) / temperature


def with_same_video(logits: Tensor, query: Tensor, other: Tensor, *, temperature: float) -> Tensor:
    """One column more, (B, M + 1): queries (B, D) against other times (B, D) of their own videos, with gradient."""
    negative = (query * other).sum(dim=1, keepdim=True) / temperature
    return torch.cat([logits, negative], dim=1)


def without_own_keys(logits: Tensor, own: Tensor) -> Tensor:
    """Logits (B, 1 + K + ...) in which queued keys of the sample's own video, own (B, K) bool, do not count.

    Such keys are older features of the positive; as negatives they push apart what shall agree.
    """
    ignored = torch.zeros_like(logits, dtype=torch.bool)
    ignored[:, 1 : 1 + own.shape[1]] = own
    return logits.masked_fill(ignored, float("-inf"))
