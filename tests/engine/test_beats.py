import shutil

import pytest

from engine.beats import FOLDER, Beat, Beats, Stage, open_beats
from engine.world import World


def test_what_a_rank_tells_is_what_the_others_read(tmp_path):
    mine, theirs = (Beats(tmp_path, rank, range(2)) for rank in (0, 1))
    told = Beat(0, 12, Stage.SAVE, since_s=1.5, overdue=True, count=3)
    mine.write(told)
    assert theirs.read(0) == told
    assert theirs.read_all() == {0: told, 1: None}
    mine.write(Beat(0, 1, Stage.LOG))
    assert theirs.read(0) == Beat(0, 1, Stage.LOG), "nothing of the longer one before is left"


@pytest.mark.parametrize("left", [b"", b'{"rank": 0, "st', b"[]", b"\xff\xfe"])
def test_half_a_beat_is_none(tmp_path, left):
    (tmp_path / "rank-0000").write_bytes(left)
    assert Beats(tmp_path, 0, range(1)).read(0) is None


def test_the_first_verdict_stands(tmp_path):
    one, other = (Beats(tmp_path, rank, range(2)) for rank in (0, 1))
    assert one.verdict() is None
    assert one.claim({"text": "rank 1 is gone"})
    assert not other.claim({"text": "rank 0 is gone"})
    assert other.verdict() == {"text": "rank 1 is gone"}


def test_each_rank_keeps_an_eye_on_the_next_in_a_ring(tmp_path):
    assert [Beats(tmp_path, rank, range(3)).next_rank for rank in range(3)] == [1, 2, 0]
    assert Beats(tmp_path, 2, [2]).next_rank == 2


def test_a_start_sweeps_away_what_a_killed_one_left(tmp_path):
    first = open_beats(tmp_path, World())
    first.claim({"text": "old"})
    second = open_beats(tmp_path, World())
    assert second.verdict() is None
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    second.remove()
    assert not (tmp_path / FOLDER).exists()


def _open_apart(world, shared, own):
    beats = open_beats(shared, world)
    apart = open_beats(own / str(world.rank), world)
    return beats.next_rank, apart.next_rank


def test_ranks_that_do_not_share_the_folder_watch_themselves_alone(two_ranks, tmp_path):
    assert two_ranks.run(_open_apart, tmp_path / "shared", tmp_path / "own") == [(1, 0), (0, 1)]


def test_a_folder_that_has_vanished_does_not_keep_a_verdict_from_its_rank(tmp_path):
    beats = open_beats(tmp_path, World())
    shutil.rmtree(tmp_path / FOLDER)
    assert beats.claim({"text": "alone"})
    assert beats.read_all() == {0: None}
