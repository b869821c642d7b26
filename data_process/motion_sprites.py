"""Sprites of a motion video: their shapes and textures, painted at given poses.

Letters: T frames, S rows and columns, N sides of the square drawn round a sprite.
"""

from __future__ import annotations

import numpy as np

from data_process.motion_poses import Poses

SHAPES = ("ellipse", "bar", "triangle", "T")
TEXTURES = ("halves", "stripes", "checker")
_RADIUS = 11 / 64  # of a sprite of log-size 0, as a share of the frame
_GROWTH = 0.38  # radius = 11 exp(0.38 log-size) pixels in a world of 64


def paint_sprite(
    frames: np.ndarray, poses: Poses, camera: np.ndarray, *, shape: str, texture: str, colours: np.ndarray
) -> None:
    """Draw one sprite into all frames (T, S, S, 3) float32, in a square round its centre that wraps round the edges.

    Args:
        frames: changed in place.
        poses: of the sprite in the world.
        camera: (T, 2) offset of the world in the picture, (x, y) pixels.
        shape: out of `SHAPES`.
        texture: out of `TEXTURES`.
        colours: (2, 3) the sprite's two colours, grey levels.
    """
    size = frames.shape[1]
    radius = (_RADIUS * size * np.exp(_GROWTH * poses.log_size)).astype(np.float32)
    half = min(int(np.ceil(radius.max())) + 1, (size - 1) // 2)
    x, y = (poses.x + camera[:, 0]) % size, (poses.y + camera[:, 1]) % size
    offsets = np.arange(-half, half + 1)
    columns = np.round(x).astype(np.int64)[:, None] + offsets  # (T, N)
    rows = np.round(y).astype(np.int64)[:, None] + offsets
    dx = (columns - x[:, None]).astype(np.float32)[:, None, :]
    dy = (rows - y[:, None]).astype(np.float32)[:, :, None]
    cos, sin = (f(poses.angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    scale = radius[:, None, None]
    along, across = (cos * dx + sin * dy) / scale, (cos * dy - sin * dx) / scale  # (T, N, N), radii
    cover = np.clip(0.5 - _outside(shape, along, across) * scale, 0, 1)[..., None]
    first = (_is_first(texture, along, across) ^ poses.swapped[:, None, None])[..., None]
    paint = np.where(first, *colours.astype(np.float32))
    place = np.arange(len(frames))[:, None, None], rows[:, :, None] % size, columns[:, None, :] % size
    under = frames[place]
    frames[place] = under + cover * (paint - under)


def _outside(shape: str, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Distance to the outline in radii, negative inside (exact near straight edges, which is what smoothing needs)."""
    if shape == "ellipse":
        return (np.hypot(along, across / 0.55) - 1) * 0.7
    if shape == "bar":
        return _outside_box(along, across, 0.95, 0.42)
    if shape == "triangle":
        slope = np.hypot(1.55, 0.75)
        return np.maximum(-0.7 - along, (0.75 * (along - 0.85) + 1.55 * np.abs(across)) / slope)
    stem, beam = _outside_box(along + 0.15, across, 0.75, 0.22), _outside_box(along - 0.6, across, 0.25, 0.75)
    return np.minimum(stem, beam)


def _outside_box(along: np.ndarray, across: np.ndarray, half_length: float, half_width: float) -> np.ndarray:
    return np.maximum(np.abs(along) - half_length, np.abs(across) - half_width)


def _is_first(texture: str, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Where the sprite's first colour is; coarse enough to be seen in half the size.

    A half turn makes each texture its own swap, so no sprite looks the same turned.
    """
    if texture == "halves":
        return along > 0
    if texture == "stripes":
        return (1.1 * along) % 1 > 0.5
    return ((0.8 * along) % 1 > 0.5) ^ ((0.8 * across + 0.25) % 1 > 0.5)
