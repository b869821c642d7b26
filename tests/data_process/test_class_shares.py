"""A share of each class: rounded, never empty, and the same however the videos are stored."""

import random

import pytest

from data_process.class_shares import hold_out, labelled_share
from data_process.data_config import DataConfig
from data_process.errors import InputError
from data_process.shard_writer import write_dataset
from data_process.shards import ShardSet
from tests.sample_videos import jpegs, small_dataset

COUNTS = {"one": 1, "few": 4, "some": 10, "many": 25}


def dataset(folder, *, shuffled=None, counts=COUNTS, per_shard=7, unlabelled=0):
    """Videos of classes of unequal size."""
    ids = [(f"{name}/{number}", place) for place, name in enumerate(counts) for number in range(counts[name])]
    ids += [(f"bare/{number}", -1) for number in range(unlabelled)]
    if shuffled is not None:
        random.Random(shuffled).shuffle(ids)
    picture = jpegs(1, frames=1)
    videos = [({"id": one, "label": label, "split": "train", "width": 40, "height": 32}, picture) for one, label in ids]
    return write_dataset(folder, videos, classes=tuple(counts), videos_per_shard=per_shard)


def of_classes(videos):
    return {name: videos.labels.tolist().count(place) for place, name in enumerate(videos.classes)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return ShardSet(dataset(tmp_path_factory.mktemp("shares") / "shards"))


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.001, (1, 1, 1, 1)), (0.1, (1, 1, 1, 3)), (0.5, (1, 2, 5, 13)), (1.0, (1, 4, 10, 25))],
)
def test_every_class_gives_its_rounded_share_and_at_least_one(videos, share, expected):
    assert tuple(of_classes(labelled_share(videos, share, seed=0)).values()) == expected


def test_a_larger_share_holds_the_smaller_one_and_another_seed_chooses_others(videos):
    chosen = [set(labelled_share(videos, share, seed=4).ids()) for share in (0.1, 0.3, 0.8)]
    assert chosen[0] < chosen[1] < chosen[2]
    assert set(labelled_share(videos, 0.3, seed=5).ids()) != chosen[1]


def test_the_choice_depends_on_ids_and_not_on_how_they_are_stored(videos, tmp_path):
    other = ShardSet(dataset(tmp_path / "other", shuffled=3, per_shard=40))
    assert list(other.ids()) != list(videos.ids())
    ours, theirs = (set(labelled_share(one, 0.3, seed=1).ids()) for one in (videos, other))
    assert ours == theirs


def test_what_is_held_out_is_of_every_class_and_no_part_of_the_rest(tmp_path):
    whole = ShardSet(dataset(tmp_path / "shards", counts={"a": 2, "b": 10, "c": 25}))
    kept, held = hold_out(whole, 0.2, seed=0)
    assert tuple(of_classes(held).values()) == (1, 2, 5)
    assert set(kept.ids()) | set(held.ids()) == set(whole.ids())
    assert not set(kept.ids()) & set(held.ids())
    assert set(hold_out(whole, 0.2, seed=1)[1].ids()) != set(held.ids())


def test_a_class_that_would_have_no_video_left_is_refused_by_name(videos):
    told = (
        r"1 classes of .* have too few labelled videos \(40 of 4 classes in all\) .* keep one: one\. Raise data\.label"
    )
    with pytest.raises(InputError, match=told):
        hold_out(videos, 0.1, seed=0)


def test_videos_without_class_are_refused(tmp_path):
    bare = ShardSet(dataset(tmp_path / "shards", unlabelled=2))
    for take in (lambda: labelled_share(bare, 0.5, seed=0), lambda: hold_out(bare, 0.1, seed=0)):
        with pytest.raises(InputError, match=r"2 videos of .* have no class: bare/0, bare/1"):
            take()


def test_a_configuration_reads_its_share_and_nothing_of_what_is_held_out(tmp_path):
    root = str(dataset(tmp_path / "shards", counts={"a": 20, "b": 20}))
    whole = DataConfig(root).open()
    part = DataConfig(root, label_fraction=0.5, held_out=0.2)
    known = set(DataConfig(root, label_fraction=0.5).open().ids())
    assert of_classes(part.open()) == {"a": 8, "b": 8}
    assert set(part.open().ids()) | set(part.open_held_out().ids()) == known
    assert len(part.open("train")) == 40, "another split is whole"
    digests = {one.digest for one in (whole, part.open(), DataConfig(root, label_fraction=0.5).open())}
    digests.add(DataConfig(root, label_fraction=0.5, held_out=0.2, label_seed=1).open().digest)
    assert len(digests) == 4, "a run that goes on must not change what it reads"


def test_flow_is_paired_with_the_share_that_is_read(tmp_path):
    frames, flow = (str(small_dataset(tmp_path / name, flow=name == "flow")) for name in ("frames", "flow"))
    config = DataConfig(frames, flow=flow, label_fraction=0.5)
    videos = config.open()
    moving, places = config.open_flow(videos)
    assert len(videos) < len(ShardSet(frames, split="train"))
    assert [list(moving.ids())[place] for place in places] == list(videos.ids())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"label_fraction": 0.0}, r"data\.label_fraction \(0\.0\)"),
        ({"label_fraction": 1.5}, r"data\.label_fraction \(1\.5\)"),
        ({"held_out": 1.0}, r"data\.held_out \(1\.0\)"),
        ({"held_out": -0.1}, r"data\.held_out \(-0\.1\)"),
    ],
)
def test_shares_that_cannot_be_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        DataConfig("shards", **wrong)


def test_nothing_held_out_is_told(tmp_path):
    with pytest.raises(InputError, match=r"data\.held_out is 0"):
        DataConfig(str(dataset(tmp_path / "shards"))).open_held_out()
