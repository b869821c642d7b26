"""Optical flow under the geometry of a clip plan: a picture of vectors is not only moved, its vectors change."""

from __future__ import annotations

import math

import numpy as np

from pipelines.plan import ClipPlan

ZERO_LEVEL = 128
"""Stored level of no motion, and what stands outside the frame."""


def vector_map(clip: ClipPlan, size: int) -> np.ndarray:
    """What happens to a displacement (u to the right, v down, pixels), (2, 2) float32: ``new = map @ old``.

    In the order of the operations: the frame's rotation turns vectors, resizing the box to the square stretches them by
    its two factors, tilt and quarter turns turn them, a mirror image turns u round.
    """
    stretch = np.diag([size / clip.box.width, size / clip.box.height])
    mirror = np.diag([-1.0 if clip.flip else 1.0, 1.0])
    turned = _turn(90.0 * clip.quarter_turns) @ mirror @ _turn(clip.tilt) @ stretch @ _turn(clip.angle)
    return turned.astype(np.float32)


def _turn(degrees: float) -> np.ndarray:
    """Counter-clockwise on the screen, where v points down."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, sine], [-sine, cosine]])
