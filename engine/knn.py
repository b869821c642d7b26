"""k-nearest-neighbour classification by weighted votes (Wu et al., "Unsupervised Feature Learning via Non-Parametric
Instance Discrimination", arXiv 1805.01978, section 3.4).
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.retrieval import cosine_similarity


def knn_votes(
    query: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    num_classes: int,
    neighbours: int = 10,
    temperature: float = 0.07,
    mean: Tensor | None = None,
    chunk: int = 1024,
    leave_one_out: bool = False,
) -> Tensor:
    """Sum of exp(cosine / temperature) of the k nearest gallery videos by class, (Q, num_classes) float64.

    Args:
        query: (Q, D).
        gallery: (N, D).
        gallery_labels: (N,) int64.
        num_classes: columns of the result.
        neighbours: k, at most N are used.
        temperature: of the weights.
        mean: (D,), subtracted from all features before cosines are taken.
        chunk: queries side by side.
        leave_one_out: the query is the gallery, and no video is its own neighbour.
    """
    k = min(neighbours, len(gallery) - leave_one_out)
    votes = torch.zeros(len(query), num_classes, dtype=torch.float64)
    for first in range(0, len(query), chunk):
        similarity = cosine_similarity(query[first : first + chunk], gallery, mean=mean)
        if leave_one_out:
            rows = torch.arange(len(similarity))
            similarity[rows, rows + first] = -torch.inf
        nearest = torch.argsort(similarity, dim=1, descending=True, stable=True)[:, :k]
        weights = (similarity.gather(1, nearest) / temperature).exp()
        votes[first : first + chunk].scatter_add_(1, gallery_labels[nearest], weights)
    return votes
