"""The best checkpoint stays, is named, and is the same after a resume."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data_process.errors import InputError
from engine.best import Best
from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.log import read_log
from engine.resume import Resume
from tests.engine.test_trainer import assert_same_run
from tests.engine.tiny import run_tiny


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def best_of(run, kind, name, *, every=3):
    """Step of the checkpoint whose records have the smallest mean loss or largest mean metric."""
    means = {}
    for record in read_log(run / "log.jsonl"):
        saved = -(-record["step"] // every) * every
        means.setdefault(saved, []).append(record[kind][name])
    pick = min if kind == "losses" else max
    return pick(means, key=lambda step: np.mean(means[step]))


@pytest.mark.parametrize(("measure", "kind"), [("loss/total", "losses"), ("metric/spread", "metrics")])
def test_the_best_checkpoint_stays_and_is_named(tmp_path, measure, kind):
    run_tiny(tmp_path, keep_best=measure, keep=1, log_every=1)
    step = best_of(tmp_path, kind, measure.partition("/")[2])
    assert step < 24  # else the newest would stay anyway
    found = latest_checkpoint(tmp_path / "checkpoints" / "best")
    assert found.name == f"step-{step:09d}.pt"
    assert read_checkpoint(found).step == step
    kept = {path.name for path in (tmp_path / "checkpoints").glob("step-*")}
    assert kept == {found.name, "step-000000024.pt"}
    assert latest_checkpoint(tmp_path).name == "step-000000024.pt"


def test_a_resumed_run_keeps_the_best_of_the_unbroken_one(tmp_path):
    options = {"keep_best": "loss/total", "keep": 1, "log_every": 1}
    run_tiny(tmp_path / "whole", **options)
    for step in (3, 12, 24):
        run_tiny(tmp_path / "cut", stop_at_step=step, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    for run in (tmp_path / "whole", tmp_path / "cut"):
        state = read_checkpoint(latest_checkpoint(run))
        assert state.best["step"] == best_of(run, "losses", "total")
        assert latest_checkpoint(run / "checkpoints" / "best").name == f"step-{state.best['step']:09d}.pt"


def test_after_a_fall_back_the_best_is_named_anew(tmp_path):
    options = {"keep_best": "loss/total", "log_every": 1}
    run_tiny(tmp_path, stop_at_step=6, **options)
    shutil.copytree(tmp_path, tmp_path.with_name("whole"))
    (tmp_path / "checkpoints" / "best").write_text("step-000000999.pt\n")
    run_tiny(tmp_path, stop_at_step=9, **options)
    run_tiny(tmp_path.with_name("whole"), stop_at_step=9, **options)
    ours, theirs = ((run / "checkpoints" / "best").read_text() for run in (tmp_path, tmp_path.with_name("whole")))
    assert ours == theirs


def test_the_best_of_another_run_is_not_taken_over(tmp_path):
    run_tiny(tmp_path / "old", keep_best="loss/total", stop_at_step=6, log_every=1)
    run_tiny(
        tmp_path / "new", keep_best="loss/total", stop_at_step=9, log_every=1, resume=Resume(str(tmp_path / "old"))
    )
    assert latest_checkpoint(tmp_path / "new" / "checkpoints" / "best").name == "step-000000009.pt"


def test_a_measure_that_is_not_logged_is_named_with_those_that_are(tmp_path):
    with pytest.raises(
        InputError, match=r"keep_best loss/x .* it has loss/bank, loss/total, loss/value, metric/spread"
    ):
        run_tiny(tmp_path, keep_best="loss/x")


@pytest.mark.parametrize("measure", ["total", "best"])
def test_a_measure_without_its_kind_is_refused(tmp_path, measure):
    with pytest.raises(InputError, match=r"train\.keep_best must be loss/NAME or metric/NAME"):
        run_tiny(tmp_path, keep_best=measure)


def test_without_a_finite_record_nothing_is_best():
    best = Best("loss/total")
    best.judge(1)
    best.observe({"loss/total": math.nan})
    best.judge(2)
    assert best.state == {}
    best.observe({"loss/total": 1.0})
    best.judge(3)
    best.judge(4)
    assert best.state["step"] == 3


def _kept(world, folder):
    torch.set_num_threads(1)
    run_tiny(Path(folder), world=world, keep_best="loss/bank", keep=1, log_every=1)


def test_ranks_judge_by_the_mean_of_all(tmp_path, two_ranks):
    two_ranks.run(_kept, str(tmp_path))
    step = best_of(tmp_path, "losses", "bank")
    assert latest_checkpoint(tmp_path / "checkpoints" / "best").name == f"step-{step:09d}.pt"
