"""What the originals' image operations do, beside ours: equal where they mean the same, how far apart elsewhere.

Contrast is taken around 128 (theirs around the picture's own mean), hue turns in YIQ (theirs in HSV), small rotations
are bilinear (theirs nearest): definitions that both executors share. Resizing is theirs, bilinear or bicubic.
"""

import numpy as np
import pytest
import torch

from data_process.records import VideoRecord
from models.views import blend_frame
from pipelines.evaluation import EvaluationClips
from pipelines.pixels import blur, cut_clip, recolour, rotated_crop, to_levels
from pipelines.plan import Box, ClipPlan, Photometric
from tests.parity.recorded import load, vectors_root


def recorded(name: str) -> dict[str, np.ndarray]:
    path = vectors_root() / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} of {path.parent.name} was recorded elsewhere: INTRAVID_VECTORS names its folder")
    return load(path)


def levels_apart(ours: torch.Tensor, theirs: np.ndarray) -> np.ndarray:
    return np.abs(ours.numpy().astype(float) - theirs)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors_of_cstp_mean_the_same(name: str, place: int) -> None:
    vectors = recorded("cstp/pixel_ops")
    picture, factor = torch.from_numpy(vectors["img"])[None], float(vectors["factors"][place])
    assert levels_apart(recolour(picture, Photometric(**{name: factor}))[0], vectors[f"pil_{name}_{place}"]).max() <= 1


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors_of_vtdl_mean_the_same(name: str) -> None:
    vectors = recorded("vtdl/basic_augmentation")
    change = Photometric(**{name: float(vectors[f"jitter_{name}_factor"])})
    error = levels_apart(recolour(torch.from_numpy(vectors["after_crop"]), change), vectors[f"after_jitter_{name}"])
    assert error.max() <= 1


@pytest.mark.parametrize("place", [0, 1])
def test_hue_turns_the_same_way_round(place: int) -> None:
    vectors = recorded("cstp/pixel_ops")
    picture, turn = torch.from_numpy(vectors["img"])[None], 360.0 * float(vectors["hues"][place])
    theirs = vectors[f"pil_hue_{place}"]
    right, wrong = (levels_apart(recolour(picture, Photometric(hue=h))[0], theirs).mean() for h in (turn, -turn))
    assert right < 26
    assert wrong > 2 * right


@pytest.mark.parametrize("place", [0, 1, 2])
def test_blur_has_the_same_width(place: int) -> None:
    vectors = recorded("cstp/pixel_ops")
    picture, radius = torch.from_numpy(vectors["img"])[None], float(vectors["radii"][place])
    theirs = vectors[f"pil_blur_{place}"]
    errors = {factor: levels_apart(blur(picture, factor * radius)[0], theirs).mean() for factor in (0.7, 1.0, 1.4)}
    assert errors[1.0] < 1.0, "Pillow's is three box filters"
    assert min(errors, key=errors.__getitem__) == 1.0


def test_turns_crops_and_flips_are_exact() -> None:
    vectors = recorded("cstp/pixel_ops")
    picture = vectors["img"]
    height, width = picture.shape[:2]
    square = picture[:, :height]
    for turns, degrees in ((1, 90), (2, 180), (3, 270)):
        assert np.array_equal(np.rot90(picture, turns), vectors[f"pil_rot{degrees}"]), "counter-clockwise, as ours"
        ours = cut_clip({0: picture}, ClipPlan((0,), Box(0, 0, height, height), quarter_turns=turns), height)[0]
        assert np.array_equal(ours, np.rot90(square, turns))
    mirrored = cut_clip({0: picture}, ClipPlan((0,), Box(0, 0, height, height), flip=True), height)[0]
    assert np.array_equal(mirrored, vectors["flip"][:, width - height :])
    outside = vectors["pil_crop_outside"]
    box = Box(-3, -4, outside.shape[0], outside.shape[0])
    ours = cut_clip({0: picture}, ClipPlan((0,), box, padded=True), outside.shape[0])[0]
    assert np.array_equal(ours, outside[:, : outside.shape[0]])


def test_small_rotations_turn_the_same_way_by_as_much() -> None:
    for vectors, frames, angle, after in (
        (recorded("cstp/pixel_ops"), "img", "angle", "pil_rotate_small"),
        (recorded("vtdl/basic_augmentation"), "frames", "angle_deg", "after_rotate"),
    ):
        pictures = vectors[frames] if vectors[frames].ndim == 4 else vectors[frames][None]
        box = Box(0, 0, *pictures.shape[1:3])
        errors = {}
        for factor in (-1.0, 0.8, 1.0, 1.2):
            ours = to_levels(rotated_crop(pictures, box, factor * float(vectors[angle])))
            errors[factor] = levels_apart(ours, vectors[after]).mean()
        assert min(errors, key=errors.__getitem__) == 1.0, errors
        assert errors[1.0] < 8


def test_a_bicubic_crop_is_pillows_and_a_bilinear_one_near() -> None:
    vectors = recorded("cstp/pixel_ops")
    x1, y1, x2, y2 = vectors["box"].tolist()
    given = {0: vectors["img"]}, ClipPlan((0,), Box(y1, x1, y2 - y1, x2 - x1)), int(vectors["out"])
    assert levels_apart(cut_clip(*given, "bicubic")[0], vectors["pil_crop_bicubic"]).max() <= 1
    assert 0.1 < levels_apart(cut_clip(*given)[0], vectors["pil_crop_bicubic"]).mean() < 2


def test_blending_shrinks_differences_by_its_weight() -> None:
    clips = torch.randn(3, 2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor([0.0, 0.1, 0.5])
    mixed = blend_frame(clips, torch.tensor([0, 4, 2]), weight)
    expected = clips.diff(dim=2) * (1 - weight).reshape(-1, 1, 1, 1, 1)
    torch.testing.assert_close(mixed.diff(dim=2), expected)
    torch.testing.assert_close(mixed[1, :, 4], clips[1, :, 4])


def test_the_clip_that_vtdl_is_judged_by_is_near() -> None:
    vectors = recorded("vtdl/basic_augmentation")
    frames, theirs = vectors["frames"], vectors["eval_resize_centercrop"]
    video = VideoRecord("a", 0, "test", "jpeg", len(frames), 25.0, *frames.shape[1:3])
    clips = EvaluationClips(
        num_clips=1, num_frames=len(frames), size=theirs.shape[1], resize=min(vectors["after_resize"].shape[1:3])
    )
    (clip,) = clips.plans(video)[0].clips
    ours = cut_clip(dict(enumerate(frames)), clip, clips.size)
    # The box ends at whole pixels of the frame, up to half of one from where theirs does.
    assert levels_apart(ours, theirs).mean() < 2
    assert levels_apart(ours, theirs).max() < 10
