"""Overlaps of two clips: labels are what boxes and spans say, and as frequent as they should be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.draw import RATES, SpatialOverlap, TemporalOverlap, overlap_shifts, shared_area
from pipelines.plan import Box, sample_rng

QUICK = settings(max_examples=150, deadline=None)
DRAWS = 6000

# Relative frequencies of the labels of the release, of methods/cstp.md 3.3 (6,000 draws) and 3.4 (4,000 draws).
LEGACY_TEMPORAL = {
    60: (0.53, 0.16, 0.13, 0.10, 0.08),
    120: (0.45, 0.17, 0.15, 0.13, 0.10),
    180: (0.32, 0.24, 0.17, 0.13, 0.13),
    250: (0.25, 0.22, 0.19, 0.18, 0.16),
    300: (0.24, 0.21, 0.19, 0.19, 0.18),
}
LEGACY_SPATIAL = {
    ((240, 320), (240, 320)): (0.667, 0.205, 0.088, 0.029, 0.011),
    ((320, 426), (320, 426)): (0.674, 0.196, 0.086, 0.035, 0.009),
    ((426, 320), (426, 320)): (0.656, 0.201, 0.087, 0.040, 0.017),
    ((240, 320), (320, 240)): (0.511, 0.244, 0.145, 0.070, 0.032),
}


def labels(draw, count: int = DRAWS) -> np.ndarray:
    """How often each label comes out of `draw(rng)`."""
    return np.bincount([draw(sample_rng(0, 0, number)).label for number in range(count)], minlength=5)


def chi_square(seen: np.ndarray, expected: tuple[float, ...], *, drawn: int) -> float:
    """Of counts against shares that were themselves measured on `drawn` draws and rounded to two or three digits."""
    total, shares = seen.sum(), np.array(expected) / sum(expected)
    variance = total * shares + (total / drawn) ** 2 * drawn * shares + (0.005 * total) ** 2 / 3
    return float(((seen - total * shares) ** 2 / variance).sum())


@pytest.mark.parametrize("length", LEGACY_TEMPORAL)
def test_legacy_spans_have_the_labels_of_the_release(length: int) -> None:
    drawn = labels(lambda rng: TemporalOverlap(legacy=True).draw(rng, length))
    assert chi_square(drawn, LEGACY_TEMPORAL[length], drawn=6000) < 18.5  # 99.9 % of four degrees of freedom


@pytest.mark.parametrize("sizes", LEGACY_SPATIAL)
def test_legacy_boxes_have_the_labels_of_the_release(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    drawn = labels(lambda rng: SpatialOverlap(legacy=True).draw(rng, *sizes))
    assert chi_square(drawn, LEGACY_SPATIAL[sizes], drawn=4000) < 18.5


@pytest.mark.parametrize("length", [28, 29, 60, 120, 250, 1000])
def test_balanced_spans_have_equally_frequent_labels(length: int) -> None:
    drawn = labels(lambda rng: TemporalOverlap().draw(rng, length))
    assert ((drawn - DRAWS / 5) ** 2 / (DRAWS / 5)).sum() < 18.5


@pytest.mark.parametrize("size", [(240, 320), (320, 426), (128, 171), (48, 64), (60, 300)])
def test_balanced_boxes_have_equally_frequent_labels(size: tuple[int, int]) -> None:
    drawn = labels(lambda rng: SpatialOverlap().draw(rng, size))
    assert ((drawn - DRAWS / 5) ** 2 / (DRAWS / 5)).sum() < 18.5


def test_the_chi_square_refuses_labels_of_another_draw() -> None:
    flat = labels(lambda rng: SpatialOverlap().draw(rng, (240, 320)))
    assert chi_square(flat, LEGACY_SPATIAL[(240, 320), (240, 320)], drawn=4000) > 1000


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 700), st.booleans())
def test_spans_share_what_their_label_says(seed: int, length: int, legacy: bool) -> None:
    pair = TemporalOverlap(legacy=legacy).draw(sample_rng(seed, 0, 0), length)
    rate = (1, 2, 4, 8)[pair.playback]
    assert 0 <= min(pair.first + pair.second) <= max(pair.first + pair.second) < length
    assert len(pair.first) == len(pair.second) == 16
    if length <= 15 * rate:
        assert (pair.first, pair.label, pair.overlap) == (pair.second, 0, 1.0)
        return
    assert set(np.diff(pair.first)) == set(np.diff(pair.second)) == {rate}
    shift = abs(pair.first[0] - pair.second[0])
    assert shift == overlap_shifts(15 * rate)[pair.label]
    assert pair.overlap == pytest.approx(1 - shift / (15 * rate))


@QUICK
@given(st.integers(0, 10**6), st.integers(8, 500), st.integers(8, 500), st.booleans())
def test_boxes_share_what_their_label_says(seed: int, height: int, width: int, legacy: bool) -> None:
    pair = SpatialOverlap(legacy=legacy).draw(sample_rng(seed, 0, 0), (height, width))
    assert pair.first.is_inside(height, width)
    assert pair.second.is_inside(height, width)
    assert (pair.first.height, pair.first.width) == (pair.second.height, pair.second.width)
    # One row or column of the shared part is lost to whole pixels, at most.
    tolerance = 1.5 * max(1 / pair.first.height, 1 / pair.first.width)
    assert pair.overlap == pytest.approx(RATES[pair.label], abs=tolerance)


def test_all_four_corners_are_shared() -> None:
    pairs = [SpatialOverlap().draw(sample_rng(1, 0, number), (240, 320)) for number in range(300)]
    moved = {(np.sign(p.second.top - p.first.top), np.sign(p.second.left - p.first.left)) for p in pairs if p.label}
    assert {(-1, -1), (-1, 1), (1, -1), (1, 1)} <= moved


def test_boxes_in_frames_of_two_sizes_belong_to_the_release() -> None:
    with pytest.raises(ValueError, match="legacy"):
        SpatialOverlap().draw(sample_rng(0, 0, 0), (240, 320), (320, 240))
    pairs = [
        SpatialOverlap(legacy=True).draw(sample_rng(2, 0, one), (240, 320), (320, 240)) for one in range(500)
    ]  # fmt: skip
    outside = np.mean([not pair.second.is_inside(320, 240) for pair in pairs])
    assert outside == pytest.approx(0.57, abs=0.1), "methods/cstp.md 3.4: 57 % of the second boxes"


def test_shared_areas_are_counted_in_pixels() -> None:
    assert shared_area(Box(0, 0, 10, 20), Box(5, 10, 10, 20)) == 0.25
    assert shared_area(Box(0, 0, 10, 20), Box(10, 0, 10, 20)) == 0.0


def test_the_releases_repeated_clip_keeps_its_label_and_loses_what_it_says() -> None:
    drawn = [TemporalOverlap(legacy=True, legacy_repeat=True).draw(sample_rng(3, 0, one), 300) for one in range(200)]
    usual = [TemporalOverlap(legacy=True).draw(sample_rng(3, 0, one), 300) for one in range(200)]
    assert all(pair.first == pair.second and pair.overlap == 1.0 for pair in drawn)
    assert [(pair.first, pair.label) for pair in drawn] == [(pair.first, pair.label) for pair in usual]
    assert len({pair.label for pair in drawn}) == 5
    with pytest.raises(ValueError, match="legacy_repeat"):
        TemporalOverlap(legacy_repeat=True)
