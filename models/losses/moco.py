"""MoCo's contrast: a query against its own key and a queue of keys of other clips.

B samples, K rows of the queue, D features. He et al., "Momentum Contrast for Unsupervised Visual Representation
Learning" (arXiv 1911.05722), equation 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def moco_logits(queries: Tensor, keys: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """Dot products over the temperature, (B, 1 + K), column 0 the own key; `softmax_nce` of them is the loss.

    Args:
        queries: (B, D), of unit length.
        keys: (B, D), likewise, without gradient.
        rows: (K, D) of the queue as it was before the keys of this step were pushed.
        temperature: T.
    """
    positive = (queries * keys).sum(dim=1, keepdim=True)
    return torch.cat([positive, queries @ rows.T], dim=1) / temperature
