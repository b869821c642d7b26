"""The rate of a video, from the times of its decoded frames rather than from its header alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

_UNKNOWN_RATE = Fraction(25)
_EVEN, _ROUNDING_US = 0.05, 2000
_AGREES = Fraction(1, 100)


@dataclass(frozen=True)
class Timing:
    """How the frames of a video follow each other.

    Attributes:
        rate: average frames per second.
        is_variable: whether the steps between frames differ.
        end: seconds from time 0 to the end of the last frame; 0 without frames.
    """

    rate: Fraction
    is_variable: bool
    end: float


def measure_timing(times: Sequence[int], header_rate: Fraction | None) -> Timing:
    """Rate of frames at the given times.

    Headers are wrong about files of variable rate (a screen recording of 8.5 frames a second claims 30), times are
    wrong in files whose decoder hands out frames in another order than their times: where times do not grow, the
    header holds. Containers round times to milliseconds: steps count as even within two of them or a twentieth, and
    the header's exact rate is kept where it agrees to a hundredth.

    Args:
        times: microseconds, growing; steps of a single microsecond mark frames whose own time did not grow.
        header_rate: what the header claims of frames at this distance, None where it claims nothing.
    """
    steps = np.diff(np.asarray(times, dtype=np.int64))
    if len(steps) < 2 or steps.min() <= 1:
        rate = header_rate or _UNKNOWN_RATE
        return Timing(rate, False, (times[-1] / 1e6 + float(1 / rate)) if times else 0.0)
    step = float(np.median(steps))
    is_variable = bool(np.abs(steps - step).max() > max(_ROUNDING_US, _EVEN * step))
    rate = Fraction(len(steps) * 1_000_000, int(steps.sum())).limit_denominator(1001)
    if header_rate and abs(header_rate - rate) <= _AGREES * rate:
        rate = header_rate
    return Timing(rate, is_variable, (times[-1] + step) / 1e6)
