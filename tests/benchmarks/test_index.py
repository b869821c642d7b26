import json
from dataclasses import asdict

import pytest

from benchmarks import index
from benchmarks.index import Opening
from data_process.errors import InputError


def test_every_way_to_the_videos_is_measured(tmp_path, capsys):
    words = ["--videos", "1001", "--rounds", "1", "--scratch", str(tmp_path), "--json", str(tmp_path / "index.json")]
    assert index.main(words) == 0
    told = json.loads((tmp_path / "index.json").read_text())
    assert list(told["rows"]) == ["one root", "two roots", "every other id"]
    for row in told["rows"].values():
        assert all(row[name] > 0 for name in ("open s", "sample us", "digest s", "own bytes/video"))
    assert [(goal["target"], goal["at_most"]) for goal in told["goals"]] == [(2, True), (100, True)]
    assert "1,001 videos, 1 rounds" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [tmp_path / "index.json"]


def test_the_ways_lead_to_the_same_videos(tmp_path):
    configs = index.write_datasets(tmp_path, 1001)
    whole, joined, half = ([asdict(record) for record in config.open()] for config in configs.values())
    assert [one["id"] for one in whole] == [index.video_id(number) for number in range(1001)]
    assert joined == whole
    assert half == whole[::2]


def test_the_worse_of_two_processes_counts():
    one, other = Opening(1.0, 20.0, 3.0, 40.0, 50.0), Opening(2.0, 10.0, 4.0, 30.0, 60.0)
    assert index.worse_of([one, other]) == Opening(2.0, 20.0, 4.0, 40.0, 50.0)


def test_the_slowest_and_the_largest_are_held_against_the_goals():
    small, large = Opening(0.1, 1.0, 1.0, 120.0, 1.0), Opening(3.0, 1.0, 1.0, 5.0, 1.0)
    goals = index.score({"a": small, "b": large}, setting="").goals
    assert [(goal.measured, goal.met) for goal in goals] == [(3.0, False), (120.0, False)]


def test_one_video_does_not_fill_two_folders(tmp_path):
    with pytest.raises(InputError, match="--videos 1: two folders need two videos"):
        index.main(["--videos", "1", "--scratch", str(tmp_path)])
