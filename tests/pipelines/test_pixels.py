"""Each pixel operation against a slow, obvious version in numpy, or against Pillow."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.pixels import blur, cut_clip, recolour, rotated_crop
from pipelines.plan import Box, ClipPlan, Interpolation, Photometric
from tests.pipelines.memory_shards import picture


@pytest.fixture
def frame() -> np.ndarray:
    return picture(np.random.default_rng(5), 67, 91)


HALF = 0.501
"""The most that rounding once to whole levels may differ from the exact result."""


def difference(pixels: torch.Tensor, expected: np.ndarray) -> tuple[float, float]:
    error = np.abs(pixels.numpy().astype(np.float64) - expected)
    return float(error.max()), float(error.mean())


@pytest.mark.parametrize(("box", "size"), [(Box(0, 0, 67, 91), 32), (Box(7, 11, 40, 33), 33), (Box(3, 2, 21, 19), 48)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_and_resize_are_pillows(frame: np.ndarray, box: Box, size: int, interpolation: Interpolation) -> None:
    crop = frame[box.top : box.top + box.height, box.left : box.left + box.width]
    expected = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling[interpolation.upper()]))
    pixels = cut_clip({4: frame}, ClipPlan((4,), box), size, interpolation)[0]
    assert pixels.dtype == torch.uint8
    assert difference(pixels, expected)[0] <= 1


def test_bicubic_enlarged_is_near_opencvs_whose_cubic_is_steeper(frame: np.ndarray) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV (the extra `flow`) is not installed")
    soft = cv2.GaussianBlur(frame[:40, :40], (0, 0), 1.5)
    theirs = cv2.resize(soft, (72, 72), interpolation=cv2.INTER_CUBIC)  # a = -0.75, Pillow's and ours -0.5
    apart = {
        name: difference(cut_clip({0: soft}, ClipPlan((0,), Box(0, 0, 40, 40)), 72, name)[0], theirs)
        for name in get_args(Interpolation)
    }
    assert apart["bicubic"][0] <= 3
    assert apart["bicubic"][1] < 0.75 * apart["bilinear"][1], apart


def test_a_crop_of_the_output_size_is_left_as_it_is(frame: np.ndarray) -> None:
    pixels = cut_clip({0: frame}, ClipPlan((0,), Box(5, 6, 24, 24)), 24)
    assert np.array_equal(pixels[0].numpy(), frame[5:29, 6:30])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_the_square_is_flipped_first_and_turned_then(frame: np.ndarray, flip: bool, turns: int) -> None:
    square = frame[:25, :25]
    expected = np.rot90(square[:, ::-1] if flip else square, turns)
    pixels = cut_clip({0: frame}, ClipPlan((0,), Box(0, 0, 25, 25), flip=flip, quarter_turns=turns), 25)
    assert np.array_equal(pixels[0].numpy(), expected)


def slowly_rotated(frame: np.ndarray, degrees: float) -> np.ndarray:
    """The whole frame, counter-clockwise about its centre; bilinear, black outside."""
    height, width = frame.shape[:2]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    out = np.zeros(frame.shape)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5 - width / 2, row + 0.5 - height / 2
            left = cosine * x - sine * y + width / 2 - 0.5
            top = sine * x + cosine * y + height / 2 - 0.5
            for r in (math.floor(top), math.floor(top) + 1):
                for c in (math.floor(left), math.floor(left) + 1):
                    if 0 <= r < height and 0 <= c < width:
                        out[row, column] += (1 - abs(top - r)) * (1 - abs(left - c)) * frame[r, c]
    return out


@pytest.mark.parametrize("degrees", [8.0, -14.5])
def test_rotation_is_about_the_centre_of_the_frame_whatever_the_box(frame: np.ndarray, degrees: float) -> None:
    box = Box(6, 0, 50, 37)
    expected = slowly_rotated(frame, degrees)[6:56, 0:37]
    pixels = rotated_crop(np.stack([frame, frame[::-1]]), box, degrees)
    assert difference(pixels[0], expected)[0] < 0.02
    assert (pixels[0].numpy() == 0).all(axis=-1).any(), "this box reaches into a black corner"


def test_rotating_turns_a_mark_counter_clockwise() -> None:
    frame = np.zeros((41, 41, 3), np.uint8)
    frame[20, 35] = 255  # to the right of the centre
    turned = rotated_crop(frame[None], Box(0, 0, 41, 41), 30.0)[0, :, :, 0].numpy()
    row, column = (np.indices(turned.shape) * turned).sum(axis=(1, 2)) / turned.sum()
    # Counter-clockwise lifts what lies on the right.
    assert row == pytest.approx(20 - 15 * math.sin(math.radians(30)), abs=0.3)
    assert column == pytest.approx(20 + 15 * math.cos(math.radians(30)), abs=0.3)


def slowly_coloured(rgb: np.ndarray, change: Photometric) -> np.ndarray:
    """The formula of Photometric, pixel by pixel."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
    h = math.radians(change.hue)
    saturation = 0.0 if change.grey else change.saturation
    out = np.empty(rgb.shape)
    for place in np.ndindex(rgb.shape[:2]):
        y, i, q = to_yiq @ rgb[place]
        i, q = i * saturation, q * saturation
        i, q = math.cos(h) * i + math.sin(h) * q, -math.sin(h) * i + math.cos(h) * q
        v = np.linalg.solve(to_yiq, [y, i, q])
        out[place] = change.brightness * (128 + change.contrast * (v - 128))
    if change.channel is not None:
        out = out[..., [change.channel] * 3]
    return np.clip(out, 0, 255)


@pytest.mark.parametrize(
    "change",
    [
        Photometric(brightness=1.5),
        Photometric(contrast=0.4),
        Photometric(saturation=1.8),
        Photometric(hue=77.0),
        Photometric(1.3, 1.6, 0.3, -40.0),
        Photometric(grey=True),
        Photometric(0.7, 1.2, 1.4, 20.0, grey=True),
        Photometric(channel=1),
        Photometric(1.3, 1.2, 1.4, 20.0, channel=2),
    ],
)
@pytest.mark.parametrize("side", [(11, 13), (8, 6)], ids=["odd count of pixels", "multiple of four"])
def test_colour_follows_the_documented_formula(frame: np.ndarray, change: Photometric, side: tuple[int, int]) -> None:
    patch = frame[: side[0], : side[1]]
    pixels = recolour(torch.from_numpy(patch)[None], change)[0]
    assert pixels.dtype == torch.uint8
    assert difference(pixels, slowly_coloured(patch.astype(np.float64), change))[0] < HALF


def test_grey_is_the_usual_luma(frame: np.ndarray) -> None:
    luma = frame.astype(np.float64) @ [0.299, 0.587, 0.114]
    pixels = recolour(torch.from_numpy(frame)[None], Photometric(grey=True))[0]
    assert difference(pixels, np.repeat(luma[..., None], 3, axis=-1))[0] <= 1.7  # 1.2 of the definition, 0.5 rounding


def slowly_blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    radius = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(pixels.astype(np.float64), ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    out = np.zeros(pixels.shape)
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            window = padded[row : row + 2 * radius + 1, column : column + 2 * radius + 1]
            out[row, column] = np.einsum("r,c,rcx->x", weights, weights, window)
    return np.clip(out, 0, 255)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_is_a_gaussian_of_three_sigma_with_reflected_borders(frame: np.ndarray, sigma: float) -> None:
    square = frame[:23, :23]
    assert difference(blur(torch.from_numpy(square)[None], sigma)[0], slowly_blurred(square, sigma))[0] < HALF


@pytest.mark.parametrize("side", [1, 2, 5])
def test_blur_wider_than_the_picture_reflects_as_often_as_it_takes(frame: np.ndarray, side: int) -> None:
    square = frame[30 : 30 + side, 40 : 40 + side]
    assert difference(blur(torch.from_numpy(square.copy())[None], 2.5)[0], slowly_blurred(square, 2.5))[0] < HALF


def test_repeated_and_shuffled_frames_stand_where_the_plan_says(frame: np.ndarray) -> None:
    decoded = {3: frame, 5: frame[::-1].copy(), 9: frame[:, ::-1].copy()}
    clip = ClipPlan((9, 3, 3, 5, 9), Box(0, 0, 67, 67))
    pixels = cut_clip(decoded, clip, 20)
    for place, number in enumerate(clip.frames):
        alone = cut_clip(decoded, ClipPlan((number,), clip.box), 20)
        assert torch.equal(pixels[place], alone[0])


def test_each_frame_takes_its_own_colours(frame: np.ndarray) -> None:
    changes = (Photometric(brightness=0.5), Photometric(), Photometric(grey=True))
    pixels = cut_clip({0: frame}, ClipPlan((0, 0, 0), Box(0, 0, 60, 60), photometric=changes), 20)
    for place, change in enumerate(changes):
        alone = cut_clip({0: frame}, ClipPlan((0,), Box(0, 0, 60, 60), photometric=(change,)), 20)
        assert difference(pixels[place], alone[0].numpy())[0] <= 1
    assert len({row.numpy().tobytes() for row in pixels}) == 3
