"""MoCo's contrast: each query against its key and against a queue of keys of other clips.

B samples, K rows of the queue, D features.
He et al., "Momentum Contrast for Unsupervised Visual Representation Learning" (arXiv 1911.05722), equation 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def queue_logits(query: Tensor, key: Tensor, queue: Tensor, *, temperature: float) -> Tensor:
    """Dot products over the temperature, (B, 1 + K), column 0 the own key; `softmax_nce` of them is the loss.

    Args:
        query: (B, D), with gradient.
        key: (B, D) of the same videos, from the momentum network.
        queue: (K, D).
        temperature: T.
    """
    positive = (query * key).sum(dim=1, keepdim=True)
    return torch.cat([positive, query @ queue.T], dim=1) / temperature
