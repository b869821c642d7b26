"""The commands of docs/evaluation.md from videos to a report, on generated motion and on real clips."""

import csv
import json
import shlex

import numpy as np
import pytest

from data_process.shards import ShardSet
from launch import cli
from launch.results import ONE_FRAME, RANDOM, read_results
from tests.data_process.datasets.trees import ANNOTATIONS
from tests.launch.runs import ROOT
from tests.test_docs import blocks

REAL = (
    "mmaction2_demo.mp4", "mmaction2_test.mp4", "mmaction2_test.avi", "mmcv_test.mp4", "nasa_13013.mp4", "chaplin.mp4",
    "paddlevideo_example.avi", "flipping_a_pancake.mkv", "v_GGSY1Qvo990.mp4", "short_hamilton_clip.mp4",
    "filetype_fixture.3gp",
)  # fmt: skip
"""Stand for the videos of official names; of those that have a real one, it is taken."""

OWN = {
    "v_SoccerJuggling_g23_c01": "v_SoccerJuggling_g23_c01.avi",
    "TrumanShow_wave_f_nm_np1_fr_med_26": "TrumanShow_wave_f_nm_np1_fr_med_26.avi",
    "R6llTwEh07w": "R6llTwEh07w.mp4",
}


def ucf101(lists):
    """Names of two training videos and a test video of four classes, by the official lists."""
    (lists / "ucf101").symlink_to(ANNOTATIONS / "ucf101_official")
    names = {}
    for split, most in (("train", 2), ("test", 1)):
        lines = (ANNOTATIONS / "ucf101_official" / f"{split}list01.txt").read_text().split()
        for one in ("SoccerJuggling", "ApplyEyeMakeup", "HandstandPushups", "YoYo"):
            found = [line for line in lines if line.startswith(f"{one}/")]
            found.sort(key=lambda line: line.split("/")[1].partition(".")[0] not in OWN)
            names |= {line.rpartition(".")[0]: split for line in found[:most]}
    return names


def hmdb51(lists):
    (lists / "hmdb51").symlink_to(ANNOTATIONS / "hmdb51_official")
    names = {}
    for one in ("wave", "brush_hair", "climb", "walk"):
        lines = (ANNOTATIONS / "hmdb51_official" / f"{one}_test_split1.txt").read_text().splitlines()
        for use, split, most in (("1", "train", 2), ("2", "test", 1)):
            found = [line.strip()[:-2].rpartition(".")[0] for line in lines if line.strip().endswith(f" {use}")]
            names |= {f"{one}/{name}": split for name in sorted(found, key=lambda name: name not in OWN)[:most]}
    return names


def kinetics(lists):
    """Rows of the official validation list, two of each class as a training list: the sample has no other."""
    (lists / "kinetics").mkdir()
    with (ANNOTATIONS / "kinetics" / "kinetics-400_val.sample.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names, chosen = {}, {"train": [], "val": []}
    for one in ("using segway", "abseiling", "yoga", "air drumming"):
        found = sorted((row for row in rows if row["label"] == one), key=lambda row: row["youtube_id"] not in OWN)
        for split, part in (("val", found[:1]), ("train", found[1:3])):
            chosen[split] += [{**row, "split": split} for row in part]
            names |= {f"{one}/{row['youtube_id']}": split for row in part}
    for split, part in chosen.items():
        with (lists / "kinetics" / f"{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, part[0].keys())
            writer.writeheader()
            writer.writerows(part)
    return names


def motion(folder):
    words = ["--videos", "16", "--test-videos", "8", "--size", "48"]
    assert cli.main(["synth", str(folder / "videos" / "motion"), *words]) == 0


READERS = {"ucf101": ucf101, "hmdb51": hmdb51, "kinetics": kinetics}


def place(dataset, folder, clips):
    """Videos and lists of a dataset; what its splits are to hold."""
    (folder / "configs").symlink_to(ROOT / "configs")
    if dataset == "motion":
        motion(folder)
        return {"train": 16, "test": 8}
    if not ANNOTATIONS.is_dir():
        pytest.skip("the annotation samples are not beside this repository")
    (folder / "lists").mkdir()
    names, others = READERS[dataset](folder / "lists"), iter(REAL)
    assert sum(name.rpartition("/")[2] in OWN for name in names) == 1, "a real clip under its own name"
    for name in names:
        video = clips / OWN.get(name.rpartition("/")[2], "")
        video = video if video.is_file() else clips / next(others)
        path = folder / "videos" / dataset / f"{name}{video.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(video)
    return {split: list(names.values()).count(split) for split in names.values()}


def documented(dataset):
    """The commands of the page for a dataset, as lists of words."""
    lines = blocks("evaluation.md", "sh")[0].splitlines()
    assert len(lines) >= 9
    for line in lines:
        words = shlex.split(line.replace("ucf101", dataset))
        assert words[0] == "intravid"
        if words[1] == "build" and dataset == "motion":
            del words[words.index("--dataset") : words.index("--short-side")]
        if words[1] in ("pretrain", "finetune") and dataset == "kinetics":
            words.append("--eval.query=val")
        if words[1] != "build" and dataset == "motion":
            words += ["--eval.size=32", "--eval.resize=36", "--eval.num_clips=2"]  # real clips are judged as documented
        yield words[1:]


@pytest.mark.parametrize("dataset", ["motion", *(pytest.param(name, marks=pytest.mark.slow) for name in READERS)])
def test_every_command_from_videos_to_a_report_does_what_it_says(dataset, tmp_path, monkeypatch, request):
    clips = None if dataset == "motion" else request.getfixturevalue("real_clips")
    expected = place(dataset, tmp_path, clips)
    monkeypatch.chdir(tmp_path)
    for words in documented(dataset):
        assert cli.main(words) == 0, words
    query = "val" if dataset == "kinetics" else "test"
    assert {split: len(ShardSet(f"shards/{dataset}", split=split)) for split in expected} == expected
    told, tested = read_results(tmp_path / "runs" / "iic"), read_results(tmp_path / "runs" / "classifier")["test"]
    assert set(told) == {"retrieve", "knn", "linear"}
    for one in (*told.values(), tested):
        assert (one.query, one.query_videos) == (query, expected[query])
        assert all(0 <= value <= 100 for row in one.rows.values() for value in row.values())
    assert told["retrieve"].settings["merge"] == "residual"
    assert set(told["knn"].rows) > {ONE_FRAME, RANDOM}
    assert sum(count for row in tested.confusion.values() for count in row.values()) == expected[query]
    for split, count in expected.items():
        index = json.loads((tmp_path / "features" / "iic" / f"{split}.json").read_text())
        rows = np.load(tmp_path / "features" / "iic" / f"{split}.npy")
        assert (len(rows), len(index["ids"])) == (count, count)
        assert np.isfinite(rows).all()
        assert (index["settings"]["sampling"], index["settings"]["num_frames"]) == ("drawn", 64)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Confusion of the test" in page
    assert len(page) < 5 * 2**20
