"""Plans in words."""

import numpy as np

from data_process.records import VideoRecord
from pipelines.plan import Box, ClipPlan, Photometric
from pipelines.plan_text import clip_text, sample_text, target_texts

BOX = Box(0, 0, 8, 8)


def test_a_clip_is_told_in_the_order_in_which_it_is_made() -> None:
    change = Photometric(brightness=1.25, hue=-30.0, grey=True, blur=1.5)
    clip = ClipPlan((3, 7, 11), BOX, angle=-2.5, tilt=4.0, flip=True, quarter_turns=3, photometric=(change,))
    assert clip_text(1, clip) == (
        "view 1: frames 3..11 by 4, rotated -2.5°, brightness 1.25 hue -30° grey blur 1.5, tilted +4.0°, mirrored, "
        "turned 270°"
    )


def test_what_does_nothing_is_left_out() -> None:
    assert clip_text(0, ClipPlan((5, 4, 3), BOX)) == "view 0: frames 5..3 by -1"
    assert clip_text(0, ClipPlan((5,), BOX)) == "view 0: frames 5"
    assert clip_text(0, ClipPlan((5, 9, 0, 4), BOX)) == "view 0: frames 5 9 0 4"
    assert clip_text(2, ClipPlan((*range(8), 0), BOX)) == "view 2: frames 0 1 2 3 4 5 ... 0"
    assert clip_text(0, ClipPlan((2, 2, 2), BOX)) == "view 0: frames 2 2 2"


def test_targets_are_told_shortly() -> None:
    targets = {"label": np.int64(3), "weight": np.float32(0.25), "rows": np.arange(20), "turns": np.array([1, 0])}
    assert target_texts({name: np.asarray(value) for name, value in targets.items()}) == [
        "label 3", "weight 0.250", "rows [0, 1, 2, 3, 4, 5, 6, 7, ... (20)]", "turns [1, 0]",
    ]  # fmt: skip


def test_a_sample_names_its_video() -> None:
    record = VideoRecord("class/clip", 4, "train", "jpeg", 300, 29.97, 240, 320)
    assert sample_text(17, record) == "sample 17: class/clip   label 4   300 frames of 320 x 240 at 29.97/s"
