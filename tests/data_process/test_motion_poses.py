"""Every class's poses are stationary with uniform marginals, and blind to direction, sense and the order of time."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from data_process.motion_poses import CLASSES, MOTIONS, Poses, draw_sprite, sprite_poses, triangle_wave

SIZE, FRAMES, SPRITES = 64, 64, 1500
LOOKED_AT = (0, 17, 63)
CERTAIN = 1e-4  # probability below which a statistic counts as a failure; about 100 are looked at per class


def sprites(motion: str, width: float = 0.3) -> Poses:
    """Poses of many sprites, every array (SPRITES, FRAMES)."""
    rng = np.random.default_rng(7)
    draws = (draw_sprite(rng, size=SIZE, num_frames=FRAMES, width=width) for _ in range(SPRITES))
    all_poses = [sprite_poses(draw, motion, size=SIZE, num_frames=FRAMES) for draw in draws]
    return Poses(*(np.stack([getattr(poses, name) for poses in all_poses]) for name in Poses.__dataclass_fields__))


def shares(poses: Poses) -> dict[str, np.ndarray]:
    """The four continuous components as shares of their ranges: uniform in [0, 1) if all is well."""
    return {
        "x": poses.x / SIZE,
        "y": poses.y / SIZE,
        "angle": poses.angle / (2 * np.pi),
        "log_size": (poses.log_size + 1) / 2,
    }


def least_marginal_probability(poses: Poses) -> float:
    """How likely the worst of: every component uniform, a fair coin, pairs independent, at the frames looked at."""
    found = []
    for frame in LOOKED_AT:
        values = {name: share[:, frame] for name, share in shares(poses).items()}
        found += [stats.kstest(value, "uniform").pvalue for value in values.values()]
        found.append(stats.binomtest(int(poses.swapped[:, frame].sum()), SPRITES).pvalue)
        values["swapped"] = poses.swapped[:, frame] * 0.5
        for one, other in itertools.combinations(values.values(), 2):
            counts, _, _ = np.histogram2d(one, other, bins=4, range=[[0, 1], [0, 1]])
            counts = counts[:, counts.any(axis=0)]
            found.append(stats.chisquare(counts.ravel()).pvalue)
    return min(found)


def least_symmetry_probability(poses: Poses) -> float:
    """How likely the worst of: steps forward like steps backward, steps in x like steps in y."""
    steps = {}
    for name, share in shares(poses).items():
        step = np.diff(share[:, [20, 21]], axis=1)[:, 0]
        steps[name] = step if name == "log_size" else (step + 0.5) % 1 - 0.5
    # ties between steps that are 0 but for rounding must not count
    steps = {name: np.where(np.abs(step) < 1e-9, 0, step) for name, step in steps.items()}
    later, sooner = (np.abs(np.diff(poses.log_size[:, frames])) for frames in ([30, 31], [29, 30]))
    pairs = [(step, -step) for step in steps.values()]
    pairs += [(steps["x"], steps["y"]), (later[:, 0], sooner[:, 0])]
    changes = poses.swapped[:, 20] != poses.swapped[:, 21]
    upward = poses.swapped[changes, 21].sum() if changes.any() else 0
    coin = stats.binomtest(int(upward), int(changes.sum())).pvalue if changes.any() else 1.0
    return min(coin, *(stats.ks_2samp(one, other, method="asymp").pvalue for one, other in pairs))


@pytest.mark.parametrize("width", [0.3, 1.0])
@pytest.mark.parametrize("motion", CLASSES)
def test_every_pose_component_is_uniform_at_any_frame(motion, width):
    assert least_marginal_probability(sprites(motion, width)) > CERTAIN


@pytest.mark.parametrize("motion", CLASSES)
def test_labels_survive_flips_quarter_turns_and_time_reversal(motion):
    assert least_symmetry_probability(sprites(motion)) > CERTAIN


def test_a_growing_size_would_be_found_out(monkeypatch):
    def grow(still, draw, frame):
        return replace(still, log_size=(still.log_size + 1 + frame / 100) % 2 - 1 + 0.02 * frame / FRAMES)

    monkeypatch.setitem(MOTIONS, "pulse", grow)
    assert least_symmetry_probability(sprites("pulse")) < CERTAIN


def test_a_size_that_is_larger_in_the_end_would_be_found_out(monkeypatch):
    def swell(still, draw, frame):
        return replace(still, log_size=still.log_size * (1 - 0.2 * frame / FRAMES) + 0.2 * frame / FRAMES)

    monkeypatch.setitem(MOTIONS, "pulse", swell)
    assert least_marginal_probability(sprites("pulse")) < CERTAIN


def test_a_tie_between_place_and_angle_would_be_found_out(monkeypatch):
    def lean(still, draw, frame):
        return replace(still, angle=still.x / SIZE * 2 * np.pi)

    monkeypatch.setitem(MOTIONS, "spin", lean)
    assert least_marginal_probability(sprites("spin")) < CERTAIN


MOVING = {
    "line": {"x", "y"},
    "circle": {"x", "y"},
    "zigzag": {"x", "y"},
    "shuttle": {"x", "y"},
    "spin": {"angle"},
    "pulse": {"log_size"},
    "blink": {"swapped"},
    "jump": {"x", "y"},
}


@pytest.mark.parametrize("motion", CLASSES)
def test_a_class_moves_its_own_components_and_no_other(motion):
    poses = sprites(motion)
    ranges = {name: np.ptp(np.asarray(getattr(poses, name), float), axis=1) for name in Poses.__dataclass_fields__}
    assert {name for name, spread in ranges.items() if (spread > 0).all()} == MOVING[motion]
    assert {name for name, spread in ranges.items() if (spread == 0).all()} == set(ranges) - MOVING[motion]


@pytest.mark.parametrize("motion", CLASSES)
def test_lengths_grow_with_the_picture(motion):
    small, large = (
        sprite_poses(
            draw_sprite(np.random.default_rng(3), size=size, num_frames=FRAMES, width=1.0),
            motion, size=size, num_frames=FRAMES,
        )
        for size in (64, 96)
    )  # fmt: skip
    np.testing.assert_allclose(large.x, small.x * 1.5, atol=1e-9)
    np.testing.assert_allclose(large.y, small.y * 1.5, atol=1e-9)
    np.testing.assert_array_equal(large.angle, small.angle)
    np.testing.assert_array_equal(large.log_size, small.log_size)
    np.testing.assert_array_equal(large.swapped, small.swapped)


def test_a_sprite_draws_the_same_numbers_whatever_its_class():
    rng = np.random.default_rng(0)
    first = [draw_sprite(rng, size=SIZE, num_frames=FRAMES, width=0.3) for _ in range(2)]
    poses = {motion: sprite_poses(first[0], motion, size=SIZE, num_frames=FRAMES) for motion in CLASSES}
    again = np.random.default_rng(0)
    second = [draw_sprite(again, size=SIZE, num_frames=FRAMES, width=0.3) for _ in range(2)]
    np.testing.assert_array_equal(first[1].places, second[1].places)
    # these stand at the sprite's own place, angle and colours before they first change
    for motion in ("spin", "blink", "jump"):
        assert poses[motion].x[0] == poses["line"].x[0]
        assert poses[motion].angle[0] == poses["line"].angle[0]
        assert poses[motion].swapped[0] == poses["line"].swapped[0]


def test_triangle_wave_goes_up_and_down_once_a_period():
    np.testing.assert_allclose(triangle_wave(np.array([0, 0.25, 0.5, 0.75, 1.0, 1.5])), [-1, 0, 1, 0, -1, 1])
