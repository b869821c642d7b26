"""Where in the frame a clip is cut."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipelines.plan import Box


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


def random_resized_crop(
    rng: np.random.Generator, *, crop: int, resized: tuple[int, int], height: int, width: int
) -> Box:
    """`resized_crop` at a place that is uniform over all positions of the crop in the resized frame."""
    down, across = rng.random(2).tolist()
    top, left = int(down * (resized[0] - crop + 1)), int(across * (resized[1] - crop + 1))
    return resized_crop(top, left, crop=crop, resized=resized, height=height, width=width)


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) of a frame whose shorter side is scaled to `short_side`, the longer one rounded down."""
    if height <= width:
        return short_side, short_side * width // height
    return short_side * height // width, short_side


def centre_box(height: int, width: int) -> Box:
    """The largest centred square of a frame."""
    side = min(height, width)
    return Box((height - side) // 2, (width - side) // 2, side, side)


def random_area_box(rng: np.random.Generator, *, height: int, width: int, area: tuple[float, float]) -> Box:
    """A square box at a uniform place whose area is uniform in `area`, as shares of the largest square."""
    largest = min(height, width)
    side = max(1, min(largest, round(largest * float(rng.uniform(*area)) ** 0.5)))
    return Box(int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1)), side, side)


def random_crop(
    rng: np.random.Generator,
    *,
    area: tuple[float, float] | None,
    crop: int,
    resized: tuple[int, int],
    height: int,
    width: int,
) -> Box:
    """`random_area_box` where a range of areas is given, otherwise `random_resized_crop`."""
    if area is not None:
        return random_area_box(rng, height=height, width=width, area=area)
    return random_resized_crop(rng, crop=crop, resized=resized, height=height, width=width)


_ATTEMPTS = 20


def area_aspect_size(
    units: Sequence[float], *, height: int, width: int, area: tuple[float, float], aspect: tuple[float, float]
) -> tuple[int, int] | None:
    """(height, width) of a box from three numbers in [0, 1); None where it does not fit into the frame.

    Area uniform as a share of the frame, width / height uniform, sides swapped half the time: the box that CSTP's data
    sets and most random resized crops draw.
    """
    size = height * width * (area[0] + (area[1] - area[0]) * units[0])
    ratio = aspect[0] + (aspect[1] - aspect[0]) * units[1]
    columns, rows = round(math.sqrt(size * ratio)), round(math.sqrt(size / ratio))
    if units[2] < 0.5:
        columns, rows = rows, columns
    return (rows, columns) if 0 < rows <= height and 0 < columns <= width else None


def area_aspect_box(
    rng: np.random.Generator, *, height: int, width: int, area: tuple[float, float], aspect: tuple[float, float]
) -> Box:
    """A box of a size drawn by `area_aspect_size`, uniform over all places in the frame.

    A size that does not fit is drawn again, up to 20 times; then it is the largest centred square.
    """
    units = rng.random(3 * _ATTEMPTS + 2).tolist()
    for attempt in range(0, 3 * _ATTEMPTS, 3):
        size = area_aspect_size(
            units[attempt : attempt + 3], height=height, width=width, area=area, aspect=aspect
        )  # fmt: skip
        if size is not None:
            rows, columns = size
            return Box(int(units[-2] * (height - rows + 1)), int(units[-1] * (width - columns + 1)), rows, columns)
    return centre_box(height, width)


def unturned(box: Box, turns: int, *, height: int, width: int) -> Box:
    """The box in the stored frame (height x width) of a box that was drawn in the frame turned counter-clockwise.

    Args:
        box: in the raster of the turned frame.
        turns: quarter turns of that frame.
        height: of the frame before it was turned.
        width: likewise.
    """
    if turns == 0:
        return box
    if turns == 2:
        return Box(height - box.top - box.height, width - box.left - box.width, box.height, box.width)
    if turns == 1:
        return Box(box.left, width - box.top - box.height, box.width, box.height)
    return Box(height - box.left - box.width, box.top, box.width, box.height)


def cut_sides(centre: int, *, side: int, share: float) -> tuple[int, int]:
    """First and behind the last place of a window along one side of a picture, as CutMix and VTDL's ``Cut`` take it.

    As long as the square root of its share of the picture says, rounded down to an even number of pixels, and cut at
    the borders; empty where that is below 2.

    Args:
        centre: 0..side - 1.
        side: of the picture, pixels.
        share: of its area.
    """
    half = int(side * math.sqrt(share)) // 2
    return max(0, centre - half), min(side, centre + half)
