"""Numbers that tell whether a method learns or has collapsed; without gradient.

B clips, M columns of which the first is the positive, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def contrast_metrics(logits: Tensor, temperature: float, *, prefix: str = "") -> dict[str, Tensor]:
    """Mean similarity of positives and of negatives, and how often the positive is the nearest.

    Args:
        logits: (B, M), similarities over the temperature, column 0 the positive.
        temperature: that they were divided by.
        prefix: of the metrics' names.
    """
    metrics = {
        f"{prefix}positive_similarity": logits[:, 0].mean() * temperature,
        f"{prefix}found": (logits.argmax(dim=1) == 0).double().mean(),
    }
    if logits.shape[1] > 1:
        metrics[f"{prefix}negative_similarity"] = logits[:, 1:].mean() * temperature
    return metrics


@torch.no_grad()
def feature_spread(features: Tensor) -> Tensor:
    """Deviation of the directions of features (B, D) over the batch, (): 1 where they fill the sphere evenly.

    Near 0 all clips have the same feature: the network has collapsed.
    """
    directions = functional.normalize(features, dim=1)
    return directions.std(dim=0, correction=0).mean() * directions.shape[1] ** 0.5
