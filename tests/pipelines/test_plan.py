"""Plans are values: checked when made, pure functions of (seed, epoch, index), told apart by their digest."""

import hashlib
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_process.records import VideoRecord
from pipelines.plan import (
    OPERATIONS,
    PARAMETERS,
    Box,
    ClipFormat,
    ClipPlan,
    Photometric,
    SamplePlan,
    sample_rng,
)
from tests.pipelines.memory_shards import RandomPlanner

RECORD = VideoRecord("a/b", 3, "train", "jpeg", 40, 25.0, 61, 83)
PLANNER = RandomPlanner(frozenset(OPERATIONS))
CLIP = ClipPlan((1, 2, 3, 4), Box(2, 3, 20, 30))


def plan_of(seed: int, epoch: int, index: int) -> SamplePlan:
    return PLANNER(sample_rng(seed, epoch, index), RECORD)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**63), epoch=st.integers(0, 2**40), index=st.integers(0, 2**40))
def test_a_plan_depends_on_seed_epoch_and_index_alone(seed: int, epoch: int, index: int) -> None:
    plan = plan_of(seed, epoch, index)
    plan_of(seed + 1, epoch, index)  # drawing others in between changes nothing
    assert plan_of(seed, epoch, index) is not plan
    assert plan_of(seed, epoch, index).digest() == plan.digest() == pickle.loads(pickle.dumps(plan)).digest()
    others = [plan_of(seed + 1, epoch, index), plan_of(seed, epoch + 1, index), plan_of(seed, epoch, index + 1)]
    assert plan.digest() not in {other.digest() for other in others}


def test_generators_of_neighbouring_samples_share_no_numbers() -> None:
    draws = [sample_rng(0, epoch, index).random(64) for epoch in range(4) for index in range(64)]
    assert len(np.unique(np.concatenate(draws))) == 4 * 64 * 64


def test_plans_are_those_that_checkpoints_were_made_with() -> None:
    """A numpy that draws otherwise would silently break resuming: then PLAN_VERSION has to be raised."""
    rng = sample_rng(7, 3, 11)
    drawn = repr((rng.random(3).tolist(), rng.integers(0, 1000, 5).tolist(), rng.permutation(7).tolist()))
    assert hashlib.sha256(drawn.encode()).hexdigest()[:16] == "d0374fe5b590abf6"


@pytest.mark.parametrize(
    "other",
    [
        replace(CLIP, frames=(1, 2, 4, 3)),
        replace(CLIP, box=Box(2, 3, 20, 31)),
        replace(CLIP, flip=True),
        replace(CLIP, quarter_turns=1),
        replace(CLIP, angle=0.5),
        replace(CLIP, tilt=0.5),
        replace(CLIP, photometric=(Photometric(hue=1.0),)),
        replace(CLIP, photometric=(Photometric(blur=1.0),)),
        replace(CLIP, photometric=(Photometric(channel=0),)),
        replace(CLIP, photometric=(Photometric(), Photometric(), Photometric(grey=True), Photometric())),
    ],
)
def test_the_digest_sees_every_part_of_a_clip(other: ClipPlan) -> None:
    assert SamplePlan((other,)).digest() != SamplePlan((CLIP,)).digest()


def test_the_digest_sees_names_values_and_types_of_targets() -> None:
    targets = [{}, {"a": 1}, {"b": 1}, {"a": 2}, {"a": 1.0}, {"a": [1]}, {"a": np.int32(1)}]
    assert len({SamplePlan((CLIP,), target).digest() for target in targets}) == len(targets)


@pytest.mark.parametrize(
    ("clip", "needs"),
    [
        (CLIP, set()),
        (replace(CLIP, angle=-3.0), {"rotate"}),
        (replace(CLIP, tilt=3.0, padded=True), {"tilt", "pad"}),
        (replace(CLIP, flip=True, quarter_turns=2), {"flip", "turn"}),
        (replace(CLIP, photometric=(Photometric(brightness=0.9, grey=True, blur=0.3),)), {"colour", "grey", "blur"}),
        (replace(CLIP, photometric=(Photometric(channel=0),)), {"channel"}),
    ],
)
def test_a_clip_names_the_operations_it_needs_and_the_format_refuses_others(clip: ClipPlan, needs: set[str]) -> None:
    assert clip.operations == needs
    ClipFormat(1, 4, 8, operations=frozenset(needs)).check(SamplePlan((clip,)))
    for missing in needs:
        with pytest.raises(ValueError, match=missing):
            ClipFormat(1, 4, 8, operations=frozenset(needs) - {missing}).check(SamplePlan((clip,)))


def test_parameters_stand_in_the_named_columns() -> None:
    change = Photometric(1.1, 1.2, 1.3, 14.0, True, 1.5)
    clip = ClipPlan((5, 6), Box(1, 2, 3, 4), angle=-7.0, tilt=3.0, flip=True, quarter_turns=3, photometric=(change,))
    rows = clip.parameters()
    expected = {
        "top": 1, "left": 2, "height": 3, "width": 4, "flip": 1, "turns": 3, "angle": -7, "tilt": 3,
        "brightness": 1.1, "contrast": 1.2, "saturation": 1.3, "hue": 14, "grey": 1, "blur": 1.5,
    }  # fmt: skip
    assert rows.shape == (2, 14)
    assert rows.dtype == np.float32
    assert dict(zip(PARAMETERS, rows[0].tolist(), strict=True)) == pytest.approx(expected)
    assert np.array_equal(rows[0], rows[1])


def test_parameters_differ_from_frame_to_frame_where_the_colours_do() -> None:
    clip = replace(CLIP, photometric=tuple(Photometric(brightness=1 + n / 10) for n in range(4)))
    assert clip.parameters()[:, PARAMETERS.index("brightness")].tolist() == pytest.approx([1, 1.1, 1.2, 1.3])


def test_frames_and_boxes_outside_the_video_are_refused_by_its_name() -> None:
    CLIP.check_fits(RECORD)
    replace(CLIP, box=Box(0, 0, 61, 83), frames=(39, 0, 0, 39)).check_fits(RECORD)
    with pytest.raises(ValueError, match=r"a/b: frame 40 .* has 40"):
        replace(CLIP, frames=(0, 1, 2, 40)).check_fits(RECORD)
    for box in (Box(0, 0, 62, 10), Box(42, 0, 20, 10), Box(0, 74, 10, 10)):
        with pytest.raises(ValueError, match="61 x 83"):
            replace(CLIP, box=box).check_fits(RECORD)
        replace(CLIP, box=box, padded=True).check_fits(RECORD)
    with pytest.raises(ValueError, match="61 x 83"):
        replace(CLIP, box=Box(-1, 0, 10, 10)).check_fits(RECORD)


def test_plans_of_another_format_are_refused() -> None:
    clip_format = ClipFormat(2, 4, 8)
    with pytest.raises(ValueError, match="2 views"):
        clip_format.check(SamplePlan((CLIP,)))
    with pytest.raises(ValueError, match="4"):
        clip_format.check(SamplePlan((CLIP, replace(CLIP, frames=(1, 2)))))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Box(0, 0, 0, 1),
        lambda: Photometric(brightness=-0.1),
        lambda: Photometric(blur=-1.0),
        lambda: ClipPlan((), Box(0, 0, 1, 1)),
        lambda: ClipPlan((-1,), Box(0, 0, 1, 1)),
        lambda: ClipPlan((0,), Box(0, 0, 1, 1), quarter_turns=4),
        lambda: ClipPlan((0, 1, 2), Box(0, 0, 1, 1), photometric=(Photometric(), Photometric())),
        lambda: SamplePlan(()),
        lambda: ClipFormat(0, 1, 1),
        lambda: ClipFormat(1, 1, 1, std=(0.0, 1.0, 1.0)),
        lambda: ClipFormat(1, 1, 1, operations=frozenset({"sharpen"})),
    ],
)
def test_values_out_of_range_are_refused_when_made(make) -> None:
    with pytest.raises(ValueError, match=r"must|needs|at least|unknown"):
        make()
