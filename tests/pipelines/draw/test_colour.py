"""Colours and recipes stay in their ranges and come as often as they should."""

import numpy as np
import pytest

from pipelines.draw import Augmentation, ColourJitter
from pipelines.plan import IDENTITY, Photometric


def rng_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


JITTER = ColourJitter(
    brightness=0.4, contrast=0.3, saturation=1.5, hue=0.1, probability=0.5, grey=0.2, blur=0.25, blur_sigma=(0.3, 1.1)
)


def test_colour_draws_stay_in_their_ranges_and_come_as_often_as_they_should() -> None:
    rng = rng_of(2)
    drawn = [JITTER.draw(rng) for _ in range(4000)]
    changed = [one for one in drawn if one.changes_colour]
    assert len(changed) / len(drawn) == pytest.approx(0.5, abs=0.04)
    assert np.mean([one.grey for one in drawn]) == pytest.approx(0.2, abs=0.04)
    assert np.mean([one.blur > 0 for one in drawn]) == pytest.approx(0.25, abs=0.04)
    for name, low, high in (("brightness", 0.6, 1.4), ("contrast", 0.7, 1.3), ("saturation", 0.0, 2.5)):
        values = [getattr(one, name) for one in changed]
        assert low <= min(values) < low + 0.05
        assert high - 0.05 < max(values) <= high
    assert 34 < max(abs(one.hue) for one in changed) <= 36, "a tenth of the circle"
    blurs = [one.blur for one in drawn if one.blur > 0]
    assert 0.3 <= min(blurs) < max(blurs) <= 1.1


def test_colour_draws_take_the_same_count_of_numbers_whatever_comes_out() -> None:
    for seed in range(50):
        drawn, counted = rng_of(seed), rng_of(seed)
        JITTER.draw(drawn)
        counted.random(9)
        assert drawn.random() == counted.random()


@pytest.mark.parametrize(
    ("jitter", "operations"),
    [
        (ColourJitter(), set()),
        (ColourJitter(hue=0.1), {"colour"}),
        (ColourJitter(hue=0.1, probability=0.0), set()),
        (ColourJitter(grey=0.1, blur=0.1), {"grey", "blur"}),
        (ColourJitter(grey=0.1, flicker=True), {"channel"}),
        (JITTER, {"colour", "grey", "blur"}),
    ],
)
def test_a_jitter_declares_the_operations_that_its_draws_need(jitter: ColourJitter, operations: set[str]) -> None:
    assert jitter.operations == operations
    rng = rng_of(3)
    for change in (change for _ in range(200) for change in jitter.draw_clip(rng, 2)):
        used = {
            "colour": change.changes_colour,
            "grey": change.grey,
            "channel": change.channel is not None,
            "blur": change.blur > 0,
        }
        assert {name for name, is_used in used.items() if is_used} <= operations


def test_a_jitter_of_nothing_changes_nothing() -> None:
    assert ColourJitter().draw(rng_of(0)) == Photometric()
    assert ColourJitter(hue=0.5, probability=0.0).draw(rng_of(0)) is IDENTITY


def test_one_of_four_changes_exactly_one_and_each_as_often() -> None:
    jitter = ColourJitter(brightness=0.5, contrast=0.5, saturation=0.25, hue=0.5, one_of_four=True)
    rng = rng_of(6)
    drawn = [jitter.draw(rng) for _ in range(4000)]
    changed = np.array([[c.brightness != 1, c.contrast != 1, c.saturation != 1, c.hue != 0] for c in drawn])
    assert (changed.sum(axis=1) == 1).all()
    assert changed.mean(axis=0) == pytest.approx([0.25] * 4, abs=0.03)


def test_frames_have_changes_of_their_own_but_one_blur_where_asked() -> None:
    jitter = ColourJitter(brightness=0.5, grey=0.5, blur=1.0, per_frame=True)
    clip = jitter.draw_clip(rng_of(7), 16)
    assert len({change.brightness for change in clip}) == 16
    assert len({change.blur for change in clip}) == 1
    assert {change.grey for change in clip} == {True, False}
    assert len(ColourJitter(brightness=0.5).draw_clip(rng_of(7), 16)) == 1
    assert ColourJitter().draw_clip(rng_of(7), 16) == (IDENTITY,)


def test_plain_clips_keep_the_flip_and_nothing_else() -> None:
    recipe = Augmentation(strong=0.3, angle=5.0, tilt=10.0, flip=0.5, colour=ColourJitter(brightness=0.4))
    rng = rng_of(8)
    drawn = [recipe.draw(rng, 16) for _ in range(4000)]
    strong = [one for one in drawn if one.tilt]
    assert len(strong) / len(drawn) == pytest.approx(0.3, abs=0.03)
    assert all(one.angle and one.photometric != (IDENTITY,) for one in strong)
    assert all(one.photometric == (IDENTITY,) and not one.angle for one in drawn if not one.tilt)
    assert np.mean([one.flip for one in drawn]) == pytest.approx(0.5, abs=0.03)
    assert max(abs(one.tilt) for one in strong) == pytest.approx(10.0, abs=0.1)
    assert max(abs(one.angle) for one in strong) == pytest.approx(5.0, abs=0.1)


def test_a_recipe_declares_what_its_draws_need() -> None:
    assert Augmentation().operations == set()
    assert Augmentation(angle=1.0, tilt=1.0, flip=0.1).operations == {"rotate", "tilt", "flip"}
    assert Augmentation(strong=0.0, angle=1.0, flip=0.1).operations == {"flip"}
    assert Augmentation(colour=ColourJitter(hue=0.1, blur=0.1)).operations == {"colour", "blur"}


def test_flicker_shows_another_channel_in_every_frame_of_a_grey_clip() -> None:
    jitter = ColourJitter(brightness=0.5, grey=0.3, blur=1.0, flicker=True)
    clips = [jitter.draw_clip(np.random.default_rng(seed), 30) for seed in range(300)]
    flickering = [clip for clip in clips if len(clip) > 1]
    assert np.mean([len(clip) > 1 for clip in clips]) == pytest.approx(0.3, abs=0.08)
    for clip in flickering:
        assert len({(one.brightness, one.blur) for one in clip}) == 1, "one jitter and one blur a clip"
        assert not any(one.grey for one in clip)
    counts = np.bincount([one.channel for clip in flickering for one in clip], minlength=3)
    assert counts == pytest.approx(np.full(3, counts.sum() / 3), rel=0.1)
    assert all(one.channel is None and not one.grey for clip in clips if len(clip) == 1 for one in clip)
    with pytest.raises(ValueError, match="leave per_frame out"):
        ColourJitter(grey=0.3, flicker=True, per_frame=True)
