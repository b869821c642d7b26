"""SimCLR's contrast: each clip against all clips of the global batch, the other view of its video as the positive.

N videos of the global batch, of which B are this rank's; two views of each; D features.
Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (arXiv 2002.05709), equation 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def nt_xent_logits(views: Tensor, temperature: float, own: slice | None = None) -> Tensor:
    """Dot products over the temperature, (..., 2B, 2N - 1), column 0 the positive; `softmax_nce` of them is the loss.

    Rows are view-major: view 0 of the B videos, then view 1. Negatives are all other clips but the row itself, likewise
    view-major. Where each rank takes its own rows of what `gather_with_gradient` gives, the mean of the ranks' losses
    is the loss of the global batch, and DDP's mean gradient its gradient.

    Args:
        views: (..., N, 2, D), gathered from all ranks; of unit length for SimCLR, averages of segments for DualVar.
        temperature: T.
        own: place of the B videos among the N; None for all of them.
    """
    count, own = views.shape[-3], own or slice(None)
    clips = views.transpose(-3, -2)
    products = clips[..., own, :].flatten(-3, -2) @ clips.flatten(-3, -2).mT
    columns = _positive_first(count, range(*own.indices(count)), views.device)
    return products.gather(-1, columns.expand(*products.shape[:-2], -1, -1)) / temperature


def _positive_first(count: int, own: range, device: torch.device) -> Tensor:
    """(2B, 2N - 1) columns of each row: its partner, then all but itself and its partner in rising order."""
    # Arithmetic alone: a boolean mask would make the host wait for the device.
    first = torch.arange(own.start, own.stop, device=device)
    own_clip, partner = torch.cat([first, first + count]), torch.cat([first + count, first])
    lower, upper = torch.minimum(own_clip, partner), torch.maximum(own_clip, partner)
    others = torch.arange(2 * count - 2, device=device).expand(len(own_clip), -1)
    others = others + (others >= lower.unsqueeze(1))
    others = others + (others >= upper.unsqueeze(1))
    return torch.cat([partner.unsqueeze(1), others], dim=1)
