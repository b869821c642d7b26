"""Sprites: no seam on the torus, the documented outlines, colours that tell every turn."""

import numpy as np
import pytest

from data_process.motion_poses import Poses
from data_process.motion_sprites import SHAPES, TEXTURES, paint_sprite


def painted(shape, texture, *, x, y, angle=0.7, log_size=0.4, swapped=False, size=48):
    poses = Poses(*(np.array([value]) for value in (x, y, angle, log_size, swapped)))
    frames = np.zeros((1, size, size, 3), np.float32)
    colours = np.array([[200.0, 200, 200], [100, 100, 100]])
    paint_sprite(frames, poses, np.zeros((1, 2)), shape=shape, texture=texture, colours=colours)
    return frames[0]


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_sprite_wraps_round_the_edges(shape, texture):
    middle = painted(shape, texture, x=24.25, y=24.5)
    across_the_corner = painted(shape, texture, x=1.25, y=46.5)
    np.testing.assert_allclose(np.roll(middle, (22, -23), axis=(0, 1)), across_the_corner, atol=1e-3)


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_sprite_is_painted_as_a_slow_loop_over_points_paints_it(shape, texture):
    frame = painted(shape, texture, x=24.0, y=24.0, angle=0.0, log_size=0.0)
    covered = frame[..., 0] > 0
    radius = 11 / 64 * 48
    inside = {
        "ellipse": lambda u, v: u**2 + (v / 0.55) ** 2 < 1,
        "bar": lambda u, v: abs(u) < 0.95 and abs(v) < 0.42,
        "triangle": lambda u, v: -0.7 < u < 0.85 and abs(v) < 0.75 * (0.85 - u) / 1.55,
        "T": lambda u, v: (-0.9 < u < 0.6 and abs(v) < 0.22) or (0.35 < u < 0.85 and abs(v) < 0.75),
    }[shape]
    expected = [[inside((column - 24) / radius, (row - 24) / radius) for column in range(48)] for row in range(48)]
    rim = np.abs(frame[..., 0][:, :, None] - [0, 100, 200]).min(axis=2) > 0.01  # smoothed pixels belong to neither
    assert covered.sum() > 60
    assert (covered == np.array(expected))[~rim].all()


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("shape", SHAPES)
def test_swapping_the_colours_changes_every_pixel_of_a_sprite_and_leaves_none_invisible(shape, texture):
    one, other = (painted(shape, texture, x=20.0, y=20.0, swapped=swapped) for swapped in (False, True))
    full = np.minimum(one, other)[..., 0] > 99.9
    assert full.sum() > 40
    assert (one != other)[full].all()
    np.testing.assert_allclose((one + other)[full], 300, rtol=0.001)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_sprite_looks_the_same_after_a_quarter_or_half_turn(shape):
    for texture in TEXTURES:
        upright, *turned = (painted(shape, texture, x=24.0, y=24.0, angle=turn * np.pi / 2) for turn in range(4))
        for other in turned:
            assert np.abs(upright - other).max(axis=2).astype(bool).sum() > 20
