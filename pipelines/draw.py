"""Draws that planners are made of; each takes its generator first and returns plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.plan import IDENTITY, Box, Photometric


def clip_frames(start: int, *, num_frames: int, stride: int = 1) -> tuple[int, ...]:
    """Frame numbers start, start + stride, ... (num_frames of them).

    With num_frames 4 and stride 3 (K kept, . skipped)::

        K . . K . . K . . K        the clip spans (4 - 1) * 3 + 1 = 10 frames
    """
    return tuple(range(start, start + num_frames * stride, stride))


def span(num_frames: int, stride: int) -> int:
    """Number of video frames from the first to the last frame of a clip, both counted."""
    return (num_frames - 1) * stride + 1


def looped(frames: tuple[int, ...], video_frames: int) -> tuple[int, ...]:
    """Frame numbers taken modulo the length of the video: short videos start again from the beginning."""
    return tuple(frame % video_frames for frame in frames)


def random_start(rng: np.random.Generator, *, video_frames: int, num_frames: int, stride: int = 1) -> int:
    """First frame of a clip, uniform over all starts that keep it inside the video; 0 for shorter videos."""
    return int(rng.integers(0, max(0, video_frames - span(num_frames, stride)) + 1))


def even_starts(*, video_frames: int, num_clips: int, num_frames: int, stride: int = 1) -> tuple[int, ...]:
    """First frames of evenly spaced clips, from the beginning to the end of the video.

    ``int(c - s/2)`` for the clip centres c in ``linspace(s/2, L - s/2, num_clips)``, s the number of frames that a
    clip takes (num_frames * stride), as in IIC's ``datasets/ucf101.py`` for stride 1.
    """
    half = num_frames * stride / 2
    centres = np.linspace(half, max(half, video_frames - half), num_clips)
    return tuple(max(0, int(centre - half)) for centre in centres)


def resized_crop(top: int, left: int, *, crop: int, resized: tuple[int, int], height: int, width: int) -> Box:
    """Box in a stored frame (height x width) for a square crop of a frame resized to `resized` (height, width).

    Executors crop first and resize then, so that the resized frame never exists; edges are rounded to whole pixels.
    """
    rows, columns = height / resized[0], width / resized[1]
    first_row, first_column = round(top * rows), round(left * columns)
    last_row, last_column = round((top + crop) * rows), round((left + crop) * columns)
    return Box(
        min(first_row, height - 1), min(first_column, width - 1),
        max(1, last_row - first_row), max(1, last_column - first_column),
    )  # fmt: skip


def centre_box(height: int, width: int) -> Box:
    """The largest centred square of a frame."""
    side = min(height, width)
    return Box((height - side) // 2, (width - side) // 2, side, side)


def random_area_box(rng: np.random.Generator, *, height: int, width: int, area: tuple[float, float]) -> Box:
    """A square box at a uniform place whose area is uniform in `area`, as shares of the largest square."""
    largest = min(height, width)
    side = max(1, min(largest, round(largest * float(rng.uniform(*area)) ** 0.5)))
    return Box(int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1)), side, side)


@dataclass(frozen=True)
class ColourJitter:
    """Ranges of random colour changes, one draw for a whole clip.

    Attributes:
        brightness: factor uniform in [1 - b, 1 + b], at least 0.
        contrast: likewise.
        saturation: likewise.
        hue: uniform in [-hue, hue], as a share of the whole circle (0.5 is a half turn).
        probability: of changing the four at all.
        grey: probability of dropping the colours.
        blur: probability of a Gaussian blur.
        blur_sigma: range of its sigma, output pixels.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    probability: float = 1.0
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    @property
    def operations(self) -> frozenset[str]:
        """Names out of `pipelines.plan.OPERATIONS` that a draw may need."""
        colour = self.probability > 0 and max(self.brightness, self.contrast, self.saturation, self.hue) > 0
        used = {"colour": colour, "grey": self.grey > 0, "blur": self.blur > 0}
        return frozenset(name for name, is_used in used.items() if is_used)

    def draw(self, rng: np.random.Generator) -> Photometric:
        """One random change; takes the same count of numbers from the generator whatever comes out."""
        unit = rng.random(8)
        factors = [
            max(0.0, 1.0 + strength * (2.0 * u - 1.0))
            for strength, u in zip((self.brightness, self.contrast, self.saturation), unit[:3], strict=True)
        ]
        hue = 360.0 * self.hue * (2.0 * unit[3] - 1.0)
        low, high = self.blur_sigma
        grey, blur = bool(unit[5] < self.grey), float(low + (high - low) * unit[7]) if unit[6] < self.blur else 0.0
        if unit[4] < self.probability:
            return Photometric(*factors, hue=hue, grey=grey, blur=blur)
        return Photometric(grey=grey, blur=blur) if grey or blur else IDENTITY
