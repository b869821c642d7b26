"""BYOL's loss: the prediction of one clip against the target network's projection of another.

B samples, D features. Grill et al., "Bootstrap Your Own Latent" (arXiv 2006.07733), equation 2; both directions are
added and averaged over the batch as in CSTP's release (``models/byol.py``). No sample is compared with another one: the
mean over ranks of equal batches is that of the global batch.
"""

from __future__ import annotations

from torch import Tensor

from models.heads.embedding import unit_length


def regression(predictions: Tensor, targets: Tensor) -> Tensor:
    """Squared distance of both (B, D) scaled to length 1, which is 2 - 2 cos: a scalar in [0, 4].

    The targets get no gradient.
    """
    cosine = (unit_length(predictions) * unit_length(targets.detach())).sum(dim=1)
    return (2.0 - 2.0 * cosine).mean()


def symmetric_regression(predictions: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
    """Each clip's prediction (B, D) against the *other* clip's target (B, D), added: a scalar in [0, 8]."""
    return regression(predictions[0], targets[1]) + regression(predictions[1], targets[0])
