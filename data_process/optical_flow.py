"""Optical flow between neighbouring frames, and how it is stored: u above v in one grey JPEG.

A pixel's displacement to the next frame, clipped to +-bound pixels, becomes ``round(128 + 127 * pixels / bound)``: no
motion is 128 exactly, a level is bound / 127 pixels (0.16 for the default of 20).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from data_process.errors import InputError

Algorithm = Literal["dis", "dis-fast", "farneback", "tvl1"]
"""DIS (arXiv 1603.03590) with OpenCV's medium or fast preset; Farneback 2003; TV-L1 (Zach et al. 2007)."""

SMALLEST_SIDE: dict[Algorithm, int] = {"dis": 16, "dis-fast": 32, "farneback": 1, "tvl1": 16}
"""Shortest side of a frame in pixels. Below, OpenCV's DIS reads beyond its pyramid's smallest picture where the other
side is long: it gives no numbers, or the process dies (OpenCV 5.0, sides of 1 to 64 by 1 to 60 times as much)."""

ZERO = 128
"""Level of no motion."""

LEVELS = 127.0
"""Levels from no motion to the bound."""


def flow_units(frames: Iterable[np.ndarray], *, algorithm: Algorithm, bound: float, quality: int) -> Iterator[bytes]:
    """Stored flow from each grey frame (height, width) uint8 to the next: one picture (2 height, width) less.

    Two frames are in memory at a time.

    Raises:
        InputError: where OpenCV, or the algorithm in it, is not installed.
    """
    from simplejpeg import encode_jpeg

    compute = flow_function(algorithm)
    for before, after in pairwise(frames):
        levels = to_levels(compute(before, after), bound)
        height, width = before.shape
        picture = np.ascontiguousarray(levels.transpose(2, 0, 1).reshape(2 * height, width, 1))
        yield encode_jpeg(picture, quality=quality, colorspace="GRAY")


def to_levels(flow: np.ndarray, bound: float) -> np.ndarray:
    """Displacements in pixels (..., 2) to stored levels, uint8."""
    return np.rint(ZERO + LEVELS * np.clip(flow / bound, -1.0, 1.0)).astype(np.uint8)


def to_pixels(levels: np.ndarray, bound: float) -> np.ndarray:
    """Stored levels to displacements in pixels, float32."""
    return (levels.astype(np.float32) - ZERO) * np.float32(bound / LEVELS)


def flow_function(algorithm: Algorithm) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """(frame, next frame), each (height, width) uint8, to (height, width, 2) float32 displacements (u, v) in pixels.

    Raises:
        InputError: where OpenCV, or the algorithm in it, is not installed.
    """
    cv = _opencv()
    # Videos are computed side by side already, and the result must not depend on the number of cores.
    cv.setNumThreads(1)
    if algorithm == "farneback":
        return lambda one, two: cv.calcOpticalFlowFarneback(one, two, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    if algorithm == "tvl1":
        if not hasattr(cv, "optflow"):
            raise InputError(
                "--flow tvl1 is in OpenCV's contributed modules only; put opencv-contrib-python-headless in the place "
                "of opencv-python-headless, or use --flow dis"
            )
        tvl1 = cv.optflow.DualTVL1OpticalFlow_create()
        return lambda one, two: tvl1.calc(one, two, None)
    preset = cv.DISOPTICAL_FLOW_PRESET_FAST if algorithm == "dis-fast" else cv.DISOPTICAL_FLOW_PRESET_MEDIUM
    dis = cv.DISOpticalFlow_create(preset)
    # A given start would carry the flow of the last pair over; None computes every pair alone.
    return lambda one, two: dis.calc(one, two, None)


def opencv_version() -> str:
    """Version of OpenCV; part of a build's plan, since others may compute other flow.

    Raises:
        InputError: where it is not installed.
    """
    return str(_opencv().__version__)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise InputError("optical flow needs OpenCV; `pip install 'intravid[flow]'` brings it") from None
    return cv2
