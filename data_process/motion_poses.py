"""The eight motion classes: where a sprite is in every frame.

A sprite moves on a torus of S x S pixels. Its pose has five components: x, y uniform on the torus, angle uniform on
the circle, log-size uniform in [-1, 1], and which of its two colours comes first, a fair coin. Every class is a
stationary process with these same marginals and independent components: a class only decides which component moves.
So one frame, at any index, is distributed alike in all classes, and says nothing about the class. No class depends on
a direction, a sense of rotation or the order of time: labels survive flips, quarter turns and reversal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

FULL_RANGES = {
    "period": (12.0, 22.0),  # frames
    "line_speed": (1.3, 3.0),  # pixels a frame
    "circle_radius": (7.0, 12.0),  # pixels
    "zigzag_speed": (1.0, 2.0),  # pixels a frame
    "zigzag_width": (6.0, 10.0),  # pixels to either side
    "shuttle_width": (9.0, 15.0),  # pixels to either side
}
"""Ranges of what differs from sprite to sprite; pixels are those of a world of 64."""

_WORLD = 64.0


@dataclass(frozen=True)
class Poses:
    """A sprite in T frames; all arrays (T,) float64, `swapped` bool.

    Attributes:
        x: column of the centre, pixels, in [0, S).
        y: row of the centre, pixels, in [0, S).
        angle: radians, in [0, 2 pi).
        log_size: in [-1, 1].
        swapped: whether the second of the two colours comes first.
    """

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    log_size: np.ndarray
    swapped: np.ndarray


@dataclass(frozen=True)
class SpriteDraw:
    """Everything random about one sprite's motion, drawn before its class is looked at.

    Attributes:
        places: (T + 1, 2) float64 uniform on the torus, pixels; the first is the sprite's own place.
        angle: radians.
        log_size: in [-1, 1].
        swapped: the coin of the two colours.
        phase: u in [0, 1).
        heading: unit vector (x, y).
        sense: -1 or 1.
        amounts: a value within every range of `FULL_RANGES`, pixels scaled to the size of the world.
    """

    places: np.ndarray
    angle: float
    log_size: float
    swapped: bool
    phase: float
    heading: np.ndarray
    sense: int
    amounts: dict[str, float]


def draw_sprite(rng: np.random.Generator, *, size: int, num_frames: int, width: float) -> SpriteDraw:
    """Draw what a sprite's motion is made of; takes the same numbers from the generator for every class.

    Args:
        rng: generator of the video's motion.
        size: S, pixels.
        num_frames: T.
        width: share of each full range that is used, around its middle.
    """
    angle, heading, log_size, coin, phase, sense = rng.random(6)
    amounts = {}
    for name, unit in zip(FULL_RANGES, rng.random(len(FULL_RANGES)), strict=True):
        low, high = FULL_RANGES[name]
        value = (low + high) / 2 + width * (high - low) * (unit - 0.5)
        amounts[name] = value if name == "period" else value * size / _WORLD
    return SpriteDraw(
        places=rng.random((num_frames + 1, 2)) * size,
        angle=2 * np.pi * angle,
        log_size=2 * log_size - 1,
        swapped=bool(coin < 0.5),
        phase=phase,
        heading=np.array([np.cos(2 * np.pi * heading), np.sin(2 * np.pi * heading)]),
        sense=1 if sense < 0.5 else -1,
        amounts=amounts,
    )


def triangle_wave(phase: np.ndarray) -> np.ndarray:
    """Triangle wave of period 1 in [-1, 1]; uniform where the phase is."""
    return 1 - 4 * np.abs(phase % 1 - 0.5)


def _line(still: Poses, draw: SpriteDraw, frame: np.ndarray) -> Poses:
    return _moved(still, draw.heading, draw.amounts["line_speed"] * frame)


def _circle(still: Poses, draw: SpriteDraw, frame: np.ndarray) -> Poses:
    radius, turn = draw.amounts["circle_radius"], draw.sense * 2 * np.pi * _cycles(draw, frame)
    return replace(still, x=still.x + radius * np.cos(turn), y=still.y + radius * np.sin(turn))


def _zigzag(still: Poses, draw: SpriteDraw, frame: np.ndarray) -> Poses:
    across = np.array([-draw.heading[1], draw.heading[0]])
    sway = triangle_wave(1.3 * frame / draw.amounts["period"] + draw.phase)
    along = _moved(still, draw.heading, draw.amounts["zigzag_speed"] * frame)
    return _moved(along, across, draw.amounts["zigzag_width"] * sway)


def _shuttle(still: Poses, draw: SpriteDraw, frame: np.ndarray) -> Poses:
    return _moved(still, draw.heading, draw.amounts["shuttle_width"] * triangle_wave(_cycles(draw, frame)))


def _spin(still: Poses, draw: SpriteDraw, frame: np.ndarray) -> Poses:
    return replace(still, angle=still.angle + draw.sense * 2 * np.pi * frame / (1.2 * draw.amounts["period"]))


def _pulse(still: Poses, draw: SpriteDraw, frame: np.ndarray) -> Poses:
    return replace(still, log_size=triangle_wave(_cycles(draw, frame)))


def _blink(still: Poses, draw: SpriteDraw, frame: np.ndarray) -> Poses:
    return replace(still, swapped=still.swapped ^ (_beat(draw, frame) % 2 == 1))


def _jump(still: Poses, draw: SpriteDraw, frame: np.ndarray) -> Poses:
    place = draw.places[_beat(draw, frame)]
    return replace(still, x=place[:, 0], y=place[:, 1])


def _moved(poses: Poses, direction: np.ndarray, distance: np.ndarray) -> Poses:
    return replace(poses, x=poses.x + distance * direction[0], y=poses.y + distance * direction[1])


def _cycles(draw: SpriteDraw, frame: np.ndarray) -> np.ndarray:
    return frame / draw.amounts["period"] + draw.phase


def _beat(draw: SpriteDraw, frame: np.ndarray) -> np.ndarray:
    """Number of sudden changes so far; one comes every period / 3.2 frames."""
    return np.floor(frame * 3.2 / draw.amounts["period"] + draw.phase).astype(np.int64)


Motion = Callable[[Poses, SpriteDraw, np.ndarray], Poses]

MOTIONS: dict[str, Motion] = {
    "line": _line,
    "circle": _circle,
    "zigzag": _zigzag,
    "shuttle": _shuttle,
    "spin": _spin,
    "pulse": _pulse,
    "blink": _blink,
    "jump": _jump,
}
"""Class name to (standing sprite, its draw, frame numbers (T,)) -> moving sprite; the order gives the labels."""

CLASSES = tuple(MOTIONS)


def sprite_poses(draw: SpriteDraw, motion: str, *, size: int, num_frames: int) -> Poses:
    """Poses of a sprite in every frame of a video of the class `motion`."""
    still = Poses(
        x=np.full(num_frames, draw.places[0, 0]),
        y=np.full(num_frames, draw.places[0, 1]),
        angle=np.full(num_frames, draw.angle),
        log_size=np.full(num_frames, draw.log_size),
        swapped=np.full(num_frames, draw.swapped),
    )
    poses = MOTIONS[motion](still, draw, np.arange(num_frames))
    return replace(poses, x=poses.x % size, y=poses.y % size, angle=poses.angle % (2 * np.pi))
