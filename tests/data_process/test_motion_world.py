"""Frames of the motion world: the torus has no seam, levels are as documented, the class decides the motion only."""

from dataclasses import replace

import numpy as np
import pytest

from data_process.motion_poses import CLASSES
from data_process.motion_world import LEVELS, Level, draw_look, render, stream

CLEAN = Level(noise=(0.0, 0.0), flicker=0.0, light=(1.0, 1.0), shake=0.0, drift=0.0)


def video(motion="line", level=CLEAN, *, number=3, seed=1, split="train", size=64, num_frames=12):
    return render(seed, split=split, number=number, motion=motion, level=level, size=size, num_frames=num_frames)


def test_the_class_decides_nothing_but_the_motion():
    # At frame 0 these stand where they were put; line and jump have only begun.
    first = [video(motion, LEVELS["default"])[0] for motion in ("line", "spin", "blink", "jump")]
    for other in first[1:]:
        np.testing.assert_array_equal(first[0], other)


@pytest.mark.parametrize("motion", CLASSES)
def test_something_moves_in_every_class(motion):
    frames = video(motion, num_frames=24).astype(int)
    assert (np.abs(frames - frames[:1]).max(axis=3) > 30).any(axis=0).sum() > 50


def test_a_video_is_a_function_of_seed_split_and_number():
    first = video(level=LEVELS["hard"])
    np.testing.assert_array_equal(first, video(level=LEVELS["hard"]))
    for other in ({"seed": 2}, {"split": "test"}, {"number": 11}):
        assert (first != video(level=LEVELS["hard"], **other)).any()


def test_a_longer_video_of_a_steady_camera_begins_like_the_shorter_one():
    short, long = video(num_frames=8), video(num_frames=16)
    np.testing.assert_array_equal(short, long[:8])


@pytest.mark.parametrize("name", LEVELS)
def test_sets_of_one_level_use_as_many_looks_as_it_says(name):
    level = LEVELS[name]
    looks = [
        draw_look(stream(seed, split="train", number=number, purpose="look"), level, size=64)
        for seed in (0, 1)
        for number in range(60)
    ]
    palettes = {look.palette.tobytes() for look in looks}
    patterns = {look.waves.tobytes() for look in looks}
    counts = {len(look.shapes) for look in looks}
    assert len(palettes) == (level.palettes or len(looks))
    assert len(patterns) == (level.patterns or len(looks))
    assert (min(counts), max(counts)) == level.sprites
    mixed = any(len(set(look.shapes)) > 1 or len(set(look.textures)) > 1 for look in looks)
    assert mixed == level.own_shapes


@pytest.mark.parametrize("name", ["default", "medium"])
def test_sprites_are_lighter_than_the_ground(name):
    level = replace(LEVELS[name], palettes=0)
    for number in range(40):
        palette = draw_look(stream(0, split="train", number=number, purpose="look"), level, size=64).palette
        ground, second, sprite, dark = palette @ [0.299, 0.587, 0.114]
        assert sprite > dark + 20 > max(ground, second)


def test_light_falls_from_above():
    frames = video(level=replace(CLEAN, light=(1.3, 0.7)), num_frames=2).astype(float)
    plain = video(num_frames=2).astype(float)
    rows = (frames.sum(axis=(0, 2, 3)) / plain.sum(axis=(0, 2, 3)))[[0, 32, 63]]
    np.testing.assert_allclose(rows, [1.3, 1.0, 0.7], atol=0.08)  # the lightest sprites are clipped at 255


def test_the_camera_returns_but_for_its_drift():
    level = replace(CLEAN, shake=2.0)
    frames = video("blink", level, num_frames=20).astype(int)
    still = video("blink", num_frames=20).astype(int)
    np.testing.assert_array_equal(frames[[0, -1]], still[[0, -1]])
    assert (frames[10] != still[10]).any()
