"""Features as points of a plane: t-SNE where scikit-learn is installed, else the two largest principal components."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def embed(features: Tensor) -> tuple[np.ndarray, str]:
    """Points (M, 2) float64 in [0, 1] of features (M, D), and the name of what placed them.

    Directions count, not lengths, as in retrieval. The same features give the same points; t-SNE (van der Maaten and
    Hinton, JMLR 9, 2008) starts from the principal components and not from chance. Distances between far groups of its
    points mean nothing.
    """
    unit = functional.normalize(features.double(), dim=1)
    if len(unit) < 8 or find_spec("sklearn") is None:
        return _scaled(_principal(unit)), "principal components"
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(unit) - 1) / 3)
    start = _principal(unit)
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)  # as scikit-learn scales its own
    first: Any = start.astype(np.float32)  # its annotations know the names of other starts alone
    placed = TSNE(n_components=2, perplexity=perplexity, init=first, random_state=0)
    return _scaled(placed.fit_transform(unit.numpy().astype(np.float32))), "t-SNE"


def _principal(rows: Tensor) -> np.ndarray:
    centred = rows - rows.mean(dim=0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    width = min(2, len(s))
    points = (u[:, :width] * s[:width]).numpy()
    # A singular vector's sign is free: its largest number is made positive.
    points *= np.where(points[np.abs(points).argmax(axis=0), range(width)] < 0, -1.0, 1.0)
    return np.pad(points, ((0, 0), (0, 2 - width)))


def _scaled(points: np.ndarray) -> np.ndarray:
    low, high = points.min(axis=0), points.max(axis=0)
    return (points.astype(np.float64) - low) / np.maximum(high - low, 1e-12)
