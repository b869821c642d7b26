import json

import numpy as np
import pytest

from benchmarks import clip
from benchmarks.list_database import ListReader
from benchmarks.reading import ReaderSpec, Reading, read_clips
from data_process.errors import InputError
from data_process.shards import ShardSet
from tests.sample_videos import small_dataset


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("clips") / "shards", videos=6)


def test_every_reader_is_measured_on_the_same_clips(root, tmp_path, capsys):
    words = [str(root), "--clips", "3", "--warm-clips", "8", "--rounds", "1", "--frames", "4"]
    assert clip.main([*words, "--scratch", str(tmp_path), "--json", str(tmp_path / "clip.json")]) == 0
    told = json.loads((tmp_path / "clip.json").read_text())
    assert list(told["rows"]) == [clip.OURS, clip.LIST, clip.LIST_AHEAD]
    for row in told["rows"].values():
        assert all(row[name] > 0 for name in ("cold ms", "warm ms", "warm cpu ms"))
        assert all(row[name] >= 0 for name in ("cold KB", "cold faults", "memory MB"))
    bounds = [(goal["target"], goal["at_most"]) for goal in told["goals"]]
    assert bounds == [(0.1, True), (20, False), (3, False), (4, False), (64, True)]
    assert "6 videos" in told["setting"]
    assert "3 cold and 8 warm clips" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [tmp_path / "clip.json"]


def test_the_list_database_holds_the_frames_of_the_shards(root, tmp_path):
    shards = ShardSet(root)
    clip.copy_to_lists(shards, tmp_path / "lists.lmdb", count=4)
    read = ListReader(tmp_path / "lists.lmdb", readahead=True)
    for index in range(4):
        assert list(read(index, [3, 7])) == list(shards.read_frames(index, [3, 7]).units)


def test_a_clip_lies_in_its_video_and_each_is_of_another(root):
    shards = ShardSet(root)
    drawn = clip.draw_clips(shards, 6, frames=16, rng=np.random.default_rng(1))
    assert sorted(index for index, _ in drawn) == list(range(6))
    assert [index for index, _ in drawn] != list(range(6))
    for index, frames in drawn:
        assert frames == tuple(range(frames[0], frames[0] + 16))
        assert 0 <= frames[0] <= frames[-1] < shards[index].num_frames


def test_generated_videos_have_bytes_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(clip, "_POOL", 20)
    clip.write_shards(tmp_path, videos=3, frames=18, height=32, width=48)
    shards = ShardSet(tmp_path)
    assert [(one.num_frames, one.height, one.width) for one in shards] == [(18, 32, 48)] * 3
    assert len({shards.read_frames(index, range(18)).units for index in range(3)}) == 3


def test_memory_counts_what_the_reader_maps_and_not_what_was_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(clip, "_POOL", 10)
    clip.write_shards(tmp_path / "shards", videos=16, frames=250, height=128, width=128)
    shards = ShardSet(tmp_path / "shards")
    clip.copy_to_lists(shards, tmp_path / "lists.lmdb", count=16)
    megabytes = (tmp_path / "lists.lmdb").stat().st_blocks * 512 / 2**20
    clips = [(index, tuple(range(16))) for index in range(16)]
    ours = read_clips(ReaderSpec(tmp_path / "shards"), clips, cold=False)
    lists = read_clips(ReaderSpec(tmp_path / "lists.lmdb", readahead=True), clips, cold=False)
    assert megabytes > 8
    assert 0.8 * megabytes < lists.memory_mb < 2.0 * megabytes + 4.0
    assert ours.memory_mb < 0.5 * megabytes


def test_without_a_disk_the_cold_ratios_are_left_open():
    reading = Reading(ms=1.0, cpu_ms=1.0, disk_bytes=0.0, faults=0.0, memory_mb=1.0)
    board = clip.score(dict.fromkeys((clip.OURS, clip.LIST, clip.LIST_AHEAD), (reading, reading)), setting="")
    assert [goal.met for goal in board.goals] == [None, None, None, False, True]
    assert "Nothing came from a disk" in board.remarks[0]


def test_clips_longer_than_a_video_are_refused(tmp_path):
    small_dataset(tmp_path / "shards", videos=2, frames=10)
    with pytest.raises(InputError, match="video 0 has 10 frames; give --frames 10 or less"):
        clip.main([str(tmp_path / "shards")])


@pytest.mark.parametrize("option", ["--frames", "--clips", "--rounds"])
def test_counts_below_one_are_refused(root, option, capsys):
    with pytest.raises(SystemExit) as ended:
        clip.main([str(root), option, "0"])
    assert ended.value.code == 2
    assert f"argument {option}: 0: expected 1 or more" in capsys.readouterr().err
