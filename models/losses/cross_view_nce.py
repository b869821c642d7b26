"""IIC's loss: a feature against the bank of the other view, with the intra-negative bank among the negatives.

B samples, K negatives, D features. Column 0 of the bank rows is the sample itself.
Tao et al., "Self-supervised Video Representation Learning Using Inter-intra Contrastive Framework" (arXiv 2008.02531);
the code's form is in ``lib/NCEAverage.py`` and ``lib/NCECriterion.py`` of its release.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_EPS = 1e-7


def bank_logits(features: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """Dot products over the temperature, (B, M), of features (B, D) and bank rows (B, M, D)."""
    return torch.bmm(rows, features.unsqueeze(2)).squeeze(2) / temperature


def softmax_nce(logits: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, M) with column 0 as the positive; a scalar."""
    target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    return functional.cross_entropy(logits, target)


def normalising_constant(logits: Tensor, num_rows: int) -> Tensor:
    """Z of the NCE form: the mean of exp(logits) over a batch times the number of bank rows; a scalar."""
    return logits.detach().exp().mean() * num_rows


def binary_nce(probabilities: Tensor, num_rows: int) -> Tensor:
    """Noise-contrastive estimation (Gutmann and Hyvärinen 2010), the release's ``softmax=False`` form; a scalar.

    Args:
        probabilities: (B, M) exp(logit) / Z, column 0 the positive.
        num_rows: N; noise is uniform over the rows.
    """
    noise = (probabilities.shape[1] - 1) / num_rows
    positive, negatives = probabilities[:, 0], probabilities[:, 1:]
    found = torch.log(positive / (positive + noise + _EPS))
    rejected = torch.log(noise / (negatives + noise + _EPS)).sum(dim=1)
    return -(found + rejected).mean()
