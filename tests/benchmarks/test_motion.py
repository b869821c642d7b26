import json

import pytest

from benchmarks import motion, motion_runs


def judged(knn, linear, after_knn, after_linear, frame):
    return {
        "random network": {"knn": knn, "linear": linear, "retrieve@1": 10.0},
        "one frame, random network": {"knn": 12.0, "linear": 12.0, "retrieve@1": 12.0},
        "one frame, pretrained": {"knn": frame, "linear": 12.0, "retrieve@1": 12.0},
        "pretrained, step 500": {"knn": after_knn, "linear": after_linear, "retrieve@1": 50.0},
    }


def test_rows_are_means_over_seeds_with_the_spread_of_gains():
    runs = [judged(20, 15, 60, 65, 13), judged(18, 17, 64, 61, 12), judged(16, 16, 68, 66, 14)]
    row = dict(zip(motion._COLUMNS, motion.summary({"iic": runs})["iic"], strict=True))
    assert (row["kNN random"], row["kNN"], row["gains"], row["+-"]) == (18, 64, 46, 6)
    assert (row["linear random"], row["linear"], row["linear gains"]) == (16, 64, 48)
    assert (row["top-1"], row["one frame"], row["runs"]) == (50, 13, 3)
    (goal,) = motion.goals({"iic": motion.summary({"iic": runs})["iic"]})
    assert goal.measured == 46
    assert goal.met
    assert motion.summary({"iic": runs[:1]})["iic"][3] is None, "one run has no spread"


def test_every_ablation_is_of_a_recipe_and_changes_a_setting_that_it_has():
    from launch.config import load_run

    for recipe, settings in motion.ABLATIONS.values():
        path = motion_runs.RECIPES / f"{recipe}.yaml"
        assert load_run(path, list(settings)).plain != load_run(path, []).plain


def test_fewer_videos_are_taken_evenly_from_the_classes():
    ids = [f"train/{name}/{number}" for name in ("a", "b") for number in range(9)]
    chosen = motion_runs.first_of_each(ids, 6)
    assert chosen == [f"train/{name}/{number}" for name in ("a", "b") for number in range(3)]


@pytest.mark.slow
def test_a_table_is_made_and_a_second_start_takes_what_is_there(tmp_path, capsys):
    words = ["--recipes", "iic", "vtdl", "--seeds", "5", "--videos", "24", "--test-videos", "16", "--jobs", "2"]
    words += ["--folder", str(tmp_path / "motion"), "--json", str(tmp_path / "motion.json")]
    words += ["--set", "train.steps=2", "schedule.warmup=1", "train.global_batch=4"]
    assert motion.main(words) == 0
    first = json.loads((tmp_path / "motion.json").read_text())["rows"]
    assert set(first) == {"iic", "vtdl"}
    assert all(0 <= row["kNN"] <= 100 and row["runs"] == 1 for row in first.values())
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "motion").glob("runs/*/judged.json")}
    assert len(times) == 2
    assert motion.main(words) == 0
    assert json.loads((tmp_path / "motion.json").read_text())["rows"] == first
    assert {path: path.stat().st_mtime_ns for path in times} == times
    capsys.readouterr()
