"""Grad-CAM over time: where in a clip, and when, a network finds what speaks for a class.

Selvaraju et al., "Grad-CAM", arXiv 1610.02391, equations 1 and 2, with a clip's time as a third axis. The score is that
of a linear classifier on the pooled feature, so that a network that was trained without labels can be asked.

B clips, D features, T frames of S x S pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.backbone import Backbone

_LEAST_FRAMES, _LEAST_SIZE = 4, 4
"""Of a map that says when and where; deeper ones of small clips have a single place."""


def grad_cam(backbone: Backbone, clips: Tensor, directions: Tensor) -> Tensor:
    """Maps (B, T, S, S) float32 in [0, 1] of the deepest feature map that still tells times and places apart.

    A map is divided by its own maximum; it is zero where nothing in the clip speaks for the class.

    Args:
        backbone: in eval mode.
        clips: (B, C, T, S, S).
        directions: (B, D), the score of a clip is the product of its row and the pooled feature.
    """
    x, chosen = clips.detach().requires_grad_(), None
    with torch.enable_grad():
        for part in backbone.parts():
            x = part(x)
            if chosen is None or (x.shape[2] >= _LEAST_FRAMES and min(x.shape[3:]) >= _LEAST_SIZE):
                chosen = x
        assert chosen is not None
        score = (x.mean(dim=(2, 3, 4)) * directions.to(x)).sum()
        (gradient,) = torch.autograd.grad(score, chosen)
    weights = gradient.mean(dim=(2, 3, 4), keepdim=True)
    maps = functional.relu((weights * chosen.detach()).sum(dim=1, keepdim=True))
    maps = functional.interpolate(maps, size=tuple(clips.shape[2:]), mode="trilinear", align_corners=False)[:, 0]
    return (maps / maps.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)).float()
