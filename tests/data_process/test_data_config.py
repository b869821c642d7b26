"""Datasets of several folders, and parts of them."""

import numpy as np
import pytest

from data_process import joined_videos
from data_process.chosen_videos import ChosenVideos
from data_process.data_config import DataConfig
from data_process.errors import InputError
from data_process.joined_videos import JoinedVideos
from data_process.shard_writer import write_dataset
from data_process.shards import ShardSet
from tests.sample_videos import jpegs


def dataset(folder, ids, classes, *, split="train", frames=6):
    videos = [
        (
            {"id": one, "label": number % len(classes), "split": split, "width": 40, "height": 32},
            jpegs(number, frames=frames + number),
        )
        for number, one in enumerate(ids)
    ]
    return write_dataset(folder, videos, classes=classes, videos_per_shard=2)


@pytest.fixture
def roots(tmp_path):
    return [
        str(dataset(tmp_path / "one", ["a", "b", "c"], ("jump", "run"))),
        str(dataset(tmp_path / "two", ["d", "e"], ("run", "swim"), frames=9)),
    ]


def test_roots_follow_each_other_and_classes_are_joined_by_name(roots):
    videos = DataConfig(root=roots).open()
    parts = [ShardSet(root, split="train") for root in roots]
    assert videos.classes == ("jump", "run", "swim")
    assert [record.id for record in videos] == [record.id for part in parts for record in part]
    for index, record in enumerate(videos):
        part, row = (parts[0], index) if index < 3 else (parts[1], index - 3)
        assert videos.classes[record.label] == part.classes[part[row].label]
        assert videos.read_frames(index, [0, 3]) == part.read_frames(row, [0, 3])
        assert videos.index_of(record.id) == index
    assert videos.labels.tolist() == [record.label for record in videos]
    assert videos.num_frames.tolist() == [record.num_frames for record in videos]
    assert list(videos.ids()) == [record.id for record in videos]
    assert videos[-1] == videos[4]
    with pytest.raises(IndexError):
        videos[5]
    with pytest.raises(KeyError, match="nobody"):
        videos.index_of("nobody")


def test_unlabelled_videos_stay_unlabelled(tmp_path):
    one = dataset(tmp_path / "one", ["a"], ("x",))
    two = write_dataset(tmp_path / "two", [({"id": "b", "width": 40, "height": 32}, jpegs(0))])
    videos = JoinedVideos([ShardSet(two), ShardSet(one)])
    assert videos.labels.tolist() == [-1, 0]
    assert [record.label for record in videos] == [-1, 0]


def test_a_video_in_two_roots_is_refused_by_its_id(roots, tmp_path):
    third = dataset(tmp_path / "three", ["x", "b"], ("run",))
    with pytest.raises(InputError, match=r"1 ids stand in more than one of .*: b;"):
        DataConfig(root=[*roots, str(third)]).open()


def test_ids_whose_hashes_agree_are_told_apart(roots, tmp_path, monkeypatch):
    monkeypatch.setattr(joined_videos, "hash", lambda _: 7, raising=False)
    assert [record.id for record in DataConfig(root=roots).open()] == ["a", "b", "c", "d", "e"]
    third = dataset(tmp_path / "three", ["x", "b", "a"], ("run",))
    with pytest.raises(InputError, match=r"2 ids stand in more than one of .*: a, b;"):
        DataConfig(root=[*roots, str(third)]).open()


def test_the_digest_sees_roots_order_and_subset(roots, tmp_path):
    (tmp_path / "ids").write_text("a\ne\n")
    configs = [
        DataConfig(root=roots), DataConfig(root=roots[::-1]), DataConfig(root=roots[0]),
        DataConfig(root=roots, subset=str(tmp_path / "ids")),
    ]  # fmt: skip
    digests = [config.open().digest for config in configs]
    assert len(set(digests)) == 4
    assert DataConfig(root=roots).open().digest == digests[0]
    assert DataConfig(root=[roots[0]]).open().digest == digests[2], "one root is one root however it is written"


def test_a_subset_by_list_keeps_the_order_of_the_dataset(roots, tmp_path):
    (tmp_path / "ids").write_text("\ufeffe\r\n\r\na\r\na\r\n", encoding="utf-8")
    videos = DataConfig(root=roots, subset=str(tmp_path / "ids")).open()
    assert [record.id for record in videos] == ["a", "e"]
    assert videos.classes == ("jump", "run", "swim")
    assert videos.labels.tolist() == [record.label for record in videos]
    assert videos.num_frames.tolist() == [record.num_frames for record in videos]
    assert videos.read_frames(1, [2]) == DataConfig(root=roots[1]).open().read_frames(1, [2])
    assert videos.index_of("e") == 1
    assert list(videos.ids()) == ["a", "e"]
    assert not videos.is_degraded(0)
    with pytest.raises(KeyError, match="was not chosen"):
        videos.index_of("b")


def test_unknown_ids_and_missing_lists_are_told(roots, tmp_path):
    (tmp_path / "ids").write_text("a\nz\n")
    with pytest.raises(InputError, match=r"1 ids of the subset are not in .*: z"):
        DataConfig(root=roots, subset=str(tmp_path / "ids")).open()
    with pytest.raises(InputError, match=r"data\.subset .*nowhere cannot be read"):
        DataConfig(root=roots, subset=str(tmp_path / "nowhere")).open()
    with pytest.raises(InputError, match="names no videos"):
        ChosenVideos(DataConfig(root=roots).open(), [])
    for nothing in ("", []):
        with pytest.raises(InputError, match=r"data\.root is not set"):
            DataConfig(root=nothing).open()


def test_views_are_pickled_for_workers(roots, tmp_path):
    import pickle

    (tmp_path / "ids").write_text("a\ne\n")
    videos = DataConfig(root=roots, subset=str(tmp_path / "ids")).open()
    again = pickle.loads(pickle.dumps(videos))
    assert [record.id for record in again] == ["a", "e"]
    assert np.array_equal(again.labels, videos.labels)
