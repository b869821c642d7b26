"""Boxes lie in the frame and have the sizes that they were asked for."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.draw import (
    area_aspect_box,
    centre_box,
    cut_sides,
    random_area_box,
    random_resized_crop,
    resized_crop,
    short_side_size,
    unturned,
)
from pipelines.plan import Box

QUICK = settings(max_examples=80, deadline=None)
SIDES = st.integers(1, 400)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


@QUICK
@given(seed=st.integers(0, 10**6), height=SIDES, width=SIDES, low=st.floats(0.01, 1.0), more=st.floats(0.0, 1.0))
def test_area_boxes_are_squares_of_the_drawn_area_inside_the_frame(
    seed: int, height: int, width: int, low: float, more: float
) -> None:
    high = low + (1 - low) * more
    box = random_area_box(rng_of(seed), height=height, width=width, area=(low, high))
    largest = min(height, width)
    assert box.height == box.width
    assert box.top + box.height <= height
    assert box.left + box.width <= width
    assert largest * low**0.5 - 1 <= box.height <= largest * high**0.5 + 1


def test_area_boxes_reach_every_side_of_the_frame() -> None:
    rng = rng_of(1)
    boxes = [random_area_box(rng, height=20, width=30, area=(0.3, 0.9)) for _ in range(1000)]
    assert min(box.top for box in boxes) == min(box.left for box in boxes) == 0
    assert max(box.top + box.height for box in boxes) == 20
    assert max(box.left + box.width for box in boxes) == 30


@QUICK
@given(height=SIDES, width=SIDES)
def test_the_centre_box_is_the_largest_square_and_central(height: int, width: int) -> None:
    box = centre_box(height, width)
    assert box.height == box.width == min(height, width)
    assert abs(2 * box.top + box.height - height) <= 1
    assert abs(2 * box.left + box.width - width) <= 1


@QUICK
@given(data=st.data(), height=st.integers(2, 500), width=st.integers(2, 500))
def test_a_crop_of_a_resized_frame_is_found_in_the_stored_one(data: st.DataObject, height: int, width: int) -> None:
    resized = (data.draw(st.integers(8, 200)), data.draw(st.integers(8, 200)))
    crop = data.draw(st.integers(1, min(resized)))
    top = data.draw(st.integers(0, resized[0] - crop))
    left = data.draw(st.integers(0, resized[1] - crop))
    box = resized_crop(top, left, crop=crop, resized=resized, height=height, width=width)
    assert box.top + box.height <= height
    assert box.left + box.width <= width
    assert abs(box.top - top * height / resized[0]) <= 1
    assert abs(box.height - crop * height / resized[0]) <= 1
    assert abs(box.width - crop * width / resized[1]) <= 1


def test_a_crop_of_a_frame_stored_at_the_resized_size_is_that_crop() -> None:
    assert resized_crop(8, 30, crop=112, resized=(128, 171), height=128, width=171) == Box(8, 30, 112, 112)


def test_random_crops_of_a_resized_frame_reach_all_its_sides() -> None:
    rng = rng_of(4)
    boxes = [random_resized_crop(rng, crop=112, resized=(128, 171), height=128, width=171) for _ in range(2000)]
    assert {box.top for box in boxes} == set(range(17))
    assert {box.left for box in boxes} == set(range(60))


def test_the_short_side_is_scaled_and_the_long_one_rounded_down() -> None:
    assert short_side_size(240, 320, 256) == (256, 341)
    assert short_side_size(427, 240, 128) == (227, 128)
    assert short_side_size(100, 100, 7) == (7, 7)


@QUICK
@given(seed=st.integers(0, 10**6), height=SIDES, width=SIDES)
def test_boxes_of_area_and_aspect_lie_in_the_frame(seed: int, height: int, width: int) -> None:
    box = area_aspect_box(rng_of(seed), height=height, width=width, area=(0.2, 1.0), aspect=(3 / 4, 4 / 3))
    assert box.is_inside(height, width)
    if box != centre_box(height, width) and min(box.height, box.width) > 20:
        assert 0.19 <= box.height * box.width / (height * width) <= 1.0
        assert 0.7 <= box.width / box.height <= 1.4


@QUICK
@given(st.data(), st.integers(1, 30), st.integers(1, 30), st.integers(0, 3))
def test_a_box_of_a_turned_frame_is_found_in_the_upright_one(
    data: st.DataObject, height: int, width: int, turns: int
) -> None:
    frame = np.arange(height * width).reshape(height, width)
    turned = np.rot90(frame, turns)
    top = data.draw(st.integers(0, turned.shape[0] - 1))
    left = data.draw(st.integers(0, turned.shape[1] - 1))
    rows = data.draw(st.integers(1, turned.shape[0] - top))
    columns = data.draw(st.integers(1, turned.shape[1] - left))
    found = unturned(Box(top, left, rows, columns), turns, height=height, width=width)
    cut = frame[found.top : found.top + found.height, found.left : found.left + found.width]
    assert np.array_equal(np.rot90(cut, turns), turned[top : top + rows, left : left + columns])


@QUICK
@given(side=SIDES, share=st.floats(0.0, 1.0), place=st.floats(0.0, 1.0, exclude_max=True))
def test_a_window_has_an_even_length_of_at_most_its_share_but_where_a_border_cuts_it(
    side: int, share: float, place: float
) -> None:
    centre = int(place * side)
    first, last = cut_sides(centre, side=side, share=share)
    assert 0 <= first <= centre <= last <= side
    half = int(share**0.5 * side) // 2
    assert 2 * half <= share**0.5 * side
    if half <= centre <= side - half:
        assert (first, last) == (centre - half, centre + half)
    else:
        assert last - first < 2 * half
        assert first == 0 or last == side
