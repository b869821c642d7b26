import json
import sys

import pytest

from benchmarks import start
from data_process.errors import RunError


def test_what_importing_torch_takes_is_told_apart():
    rows = start.summary({"import torch": [2.0, 1.0, 3.0], "fresh, host": [5.0, 4.0, 9.0], "resumed, host": [14.0]})
    assert rows == {"import torch": (2.0, None), "fresh, host": (5.0, 3.0), "resumed, host": (14.0, 12.0)}
    (goal,) = start.goals(rows)
    assert (goal.measured, goal.met) == (12.0, False)


def test_a_start_ends_with_the_first_record_that_was_not_there(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"step": 1, "losses": {}}) + "\n")
    script = (
        "import time; time.sleep(0.3); log = open('log.jsonl', 'a'); print('{\"step\": 2, \"losses\": {}}', file=log, "
        "flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {script}"]
    assert 0.3 <= start.seconds_to_first_step(command, tmp_path) < 60


def test_a_run_that_makes_no_step_is_told_with_its_words(tmp_path):
    with pytest.raises(RunError, match="made no step: no such videos"):
        start.seconds_to_first_step([sys.executable, "-c", "import sys; sys.exit('no such videos')"], tmp_path)


@pytest.mark.slow
def test_fresh_and_resumed_starts_are_timed(tmp_path):
    words = ["--rounds", "1", "--videos", "16", "--step", "2", "--json", str(tmp_path / "start.json")]
    assert start.main([*words, "--scratch", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "start.json").read_text())["rows"]
    assert {"import torch", "fresh, host", "resumed, host"} <= rows.keys()
    assert all(row["to the first step, s"] > 0 for row in rows.values())
    assert [path.name for path in tmp_path.iterdir()] == ["start.json"], "nothing stays"
