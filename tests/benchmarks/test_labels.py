import json

import pytest

from benchmarks import labels
from benchmarks.labels import LONGER, SCRATCH


def test_gains_are_over_first_weights_of_the_same_seed():
    rows = labels.summary({SCRATCH: [50.0, 60.0, 70.0], LONGER: [60.0, 70.0, 80.0], "iic": [80.0, 64.0, 78.0]})
    named = {row: dict(zip(labels._COLUMNS, values, strict=True)) for row, values in rows.items()}
    assert named[SCRATCH] == {
        "top 1": 60, "+-": 10, "gain": None, "gain +-": None, "smallest gain": None, "largest gain": None, "runs": 3
    }  # fmt: skip
    assert (named[LONGER]["gain"], named[LONGER]["gain +-"]) == (10, 0)
    assert (named["iic"]["smallest gain"], named["iic"]["largest gain"]) == (4, 30)
    assert labels.summary({SCRATCH: [50.0], "iic": [70.0]})["iic"] == (70, None, 20, None, 20, 20, 1)


@pytest.mark.slow
def test_a_table_is_made_and_a_second_start_takes_what_is_there(tmp_path):
    words = ["--recipes", "iic", "--seeds", "5", "--videos", "24", "--test-videos", "16", "--jobs", "2"]
    words += ["--fraction", "0.5", "--folder", str(tmp_path / "motion"), "--json", str(tmp_path / "labels.json")]
    words += ["--set", "train.steps=2", "schedule.warmup=1", "train.global_batch=4"]
    words += ["--tune", "train.steps=2", "schedule.warmup=1", "train.global_batch=4"]
    assert labels.main(words) == 0
    first = json.loads((tmp_path / "labels.json").read_text())["rows"]
    assert set(first) == {SCRATCH, LONGER, "iic"}
    assert all(0 <= row["top 1"] <= 100 and row["runs"] == 1 for row in first.values())
    assert first["iic"]["gain"] == pytest.approx(first["iic"]["top 1"] - first[SCRATCH]["top 1"])
    results = list((tmp_path / "motion").glob("tuned/*/eval-test.json"))
    assert len(results) == 3
    steps = {path.parent.name: json.loads(path.read_text())["weights"] for path in results}
    longer, scratch = "first-weights-twice-the-steps-0.5-5", "first-weights-0.5-5"
    assert steps == {scratch: "step 2", longer: "step 4", "iic-0.5-5": "step 2"}
    times = {path: path.stat().st_mtime_ns for path in results}
    assert labels.main(words) == 0
    assert json.loads((tmp_path / "labels.json").read_text())["rows"] == first
    assert {path: path.stat().st_mtime_ns for path in times} == times
