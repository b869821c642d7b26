from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_process.timing import measure_timing


@given(
    rate=st.sampled_from([Fraction(5), Fraction(15), Fraction(24000, 1001), Fraction(25), Fraction(30), Fraction(60)]),
    frames=st.integers(3, 2000),
    start=st.integers(-2_000_000, 2_000_000),
    tick=st.sampled_from([1, 11, 100, 1000]),
)
def test_an_even_rate_is_found_whatever_the_container_rounds_to(rate, frames, start, tick):
    times = [start + round(number * 1_000_000 / rate / tick) * tick for number in range(frames)]
    timing = measure_timing(times, rate)
    assert (timing.rate, timing.is_variable) == (rate, False)
    assert timing.end == pytest.approx(start / 1e6 + frames / float(rate), abs=0.003)


def test_a_header_that_is_wrong_gives_way_to_the_times():
    assert measure_timing(range(0, 1_000_000, 20_000), Fraction(25)).rate == 50
    assert measure_timing(range(0, 1_000_000, 20_000), None).rate == 50


def test_uneven_steps_are_variable_and_give_their_average():
    times = [0, 100_000, 140_000, 180_000, 1_000_000]
    timing = measure_timing(times, Fraction(30))
    assert timing.is_variable
    assert timing.rate == 4
    assert timing.end == pytest.approx(1.07)


def test_one_longer_step_is_enough_to_be_variable():
    times = np.cumsum([0, *[33_333] * 20, 66_667, *[33_333] * 20])
    assert measure_timing(times, Fraction(30)).is_variable


def test_times_that_do_not_grow_leave_the_header_its_say():
    # What decoding makes of packed B-frames: a time that went back was set one microsecond after the one before.
    times = [0, 80_000, 80_001, 120_000, 200_000, 200_001]
    assert measure_timing(times, Fraction(30)) == measure_timing([], Fraction(30)).__class__(
        Fraction(30), False, pytest.approx(0.200001 + 1 / 30)
    )


@pytest.mark.parametrize("times", [[], [0], [0, 40_000]])
def test_too_few_frames_tell_nothing(times):
    assert measure_timing(times, Fraction(12)).rate == 12
    assert measure_timing(times, None).rate == 25
