"""Video retrieval: whether a query's class stands among its nearest gallery videos.

Q queries, N gallery videos, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def average_clips(values: Tensor) -> Tensor:
    """Mean over clips (N, clips, D) to (N, D), without normalisation before or after (IIC, ``retrieve_clips.py``)."""
    return values.mean(dim=1)


def cosine_similarity(query: Tensor, gallery: Tensor, *, mean: Tensor | None = None) -> Tensor:
    """Cosines (Q, N) float64 of queries (Q, D) and gallery (N, D), after subtracting `mean` (D,) from both if given.

    In float32 the rounding of a product depends on how many rows are multiplied at once, and with it who is nearest.
    """
    query, gallery = query.double(), gallery.double()
    if mean is not None:
        query, gallery = query - mean, gallery - mean
    return functional.normalize(query, dim=1) @ functional.normalize(gallery, dim=1).T


def topk_hits(
    query: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    ks: Sequence[int],
    *,
    mean: Tensor | None = None,
    chunk: int = 1024,
) -> dict[int, int]:
    """For each k the number of queries with their class among the k nearest gallery videos.

    Equal cosines are ranked by position in the gallery, so that results do not depend on the chunk size.
    """
    largest = min(max(ks), len(gallery))
    hits = dict.fromkeys(ks, 0)
    for first in range(0, len(query), chunk):
        similarity = cosine_similarity(query[first : first + chunk], gallery, mean=mean)
        nearest = torch.argsort(similarity, dim=1, descending=True, stable=True)[:, :largest]
        matches = gallery_labels[nearest] == query_labels[first : first + chunk, None]
        for k in ks:
            hits[k] += int(matches[:, :k].any(dim=1).sum())
    return hits
