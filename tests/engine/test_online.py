"""What a run measures of itself: when, exactly, without a trace in the training, and again after a kill."""

import json
import math
from pathlib import Path

import pytest
import torch

from data_process.errors import InputError
from engine.beats import Stage
from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.log import read_log
from engine.online import Online, OnlineMeasure, watched
from engine.optim import OptimConfig
from engine.precision import PrecisionConfig
from engine.schedule import ScheduleConfig
from engine.stop import Stop
from engine.train_config import TrainConfig
from engine.trainer import Outcome, train
from tests.engine.test_trainer import assert_same_run, exact_log
from tests.engine.tiny import RunFacts, StopFlag, TinyLoader, TinyMethod, World, run_tiny


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def weight_sum(method, at):
    """A value that follows from the weights alone; what it does to the network must leave no trace."""
    list(watched([1, 2], at))
    method.eval()
    torch.rand(3)
    with torch.no_grad():
        pooled = method.backbone.pooled(torch.ones(2, 3, 2, 4, 4))
    return {"sum": float(method.head[1].weight.detach().double().sum()), "val_loss": float(pooled.double().sum())}


def run_online(run_dir, *, every=4, world=None, schedule=None, stop=None, **options):
    """`run_tiny` with a measure."""
    world = world or World()
    method = TinyMethod()
    options = {"steps": 24, "global_batch": 8, "log_every": 3, "save_every": 5, "tensorboard": False} | options
    outcome = train(
        method,
        TinyLoader(rank=world.rank, world_size=world.world_size),
        config=TrainConfig(seed=1, **options),
        optim=OptimConfig(lr=0.1),
        schedule=schedule or ScheduleConfig("cosine", warmup=3),
        precision=PrecisionConfig(),
        run_dir=run_dir,
        world=world,
        stop=stop or StopFlag(world),
        facts=RunFacts(1, options["global_batch"], "digest"),
        online=[OnlineMeasure(every, weight_sum)] if every else [],
    )
    return outcome, method


def evals(run):
    return {record["step"]: record["evals"] for record in read_log(run / "log.jsonl") if record["evals"]}


def test_measures_are_taken_when_due_and_at_the_end_and_logged(tmp_path):
    run_online(tmp_path, every=10)
    assert list(evals(tmp_path)) == [10, 20, 24]
    assert evals(tmp_path)[24]["sum"] == pytest.approx(
        float(read_checkpoint(latest_checkpoint(tmp_path)).method["head.1.weight"].double().sum())
    )
    steps = [record["step"] for record in read_log(tmp_path / "log.jsonl")]
    assert steps == sorted({*range(3, 25, 3), 10, 20})


def test_a_run_that_measures_itself_learns_bitwise_what_another_does(tmp_path):
    run_online(tmp_path / "measured", every=1, log_every=1)
    run_online(tmp_path / "plain", every=0, log_every=1)
    ours, theirs = (read_checkpoint(latest_checkpoint(tmp_path / name)) for name in ("measured", "plain"))
    assert all(torch.equal(value, theirs.method[name]) for name, value in ours.method.items())
    left, right = (exact_log(tmp_path / name) for name in ("measured", "plain"))
    assert [{**one, "evals": {}} for one in left] == right
    assert all(one["evals"] for one in left)


def test_a_cut_run_measures_the_same_values(tmp_path):
    settings = {"every": 3, "keep_best": "eval/sum"}
    settings["schedule"] = ScheduleConfig("plateau", measure="eval/sum", patience=1, factor=0.5, threshold=0.05)
    run_online(tmp_path / "whole", **settings)
    for step in (2, 6, 7, 19):
        outcome, _ = run_online(tmp_path / "cut", stop_at_step=step, **settings)
        assert outcome is Outcome.PAUSED
    run_online(tmp_path / "cut", **settings)
    assert evals(tmp_path / "cut") == evals(tmp_path / "whole")
    assert len({record["lr"] for record in read_log(tmp_path / "whole" / "log.jsonl")}) > 1
    ours, theirs = (read_checkpoint(latest_checkpoint(tmp_path / name)) for name in ("cut", "whole"))
    assert ours.best == theirs.best
    assert ours.plateau == theirs.plateau
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


class StopAt:
    """A stop that the ranks agree on after some steps of a start."""

    def __init__(self, steps):
        self.left = steps

    def agreed(self):
        self.left -= 1
        return Stop.REQUEUE if self.left == 0 else Stop.NONE


SETTLED = {"every": 3, "keep_best": "eval/sum", "schedule": ScheduleConfig("plateau", measure="eval/sum", patience=0)}


def test_a_stop_saves_before_it_measures_and_the_next_start_makes_up_for_it(tmp_path, monkeypatch):
    run_online(tmp_path / "whole", **SETTLED)
    outcome, _ = run_online(tmp_path / "cut", stop=StopAt(6), **SETTLED)
    assert outcome is Outcome.REQUEUE
    assert list(evals(tmp_path / "cut")) == [3]
    assert read_checkpoint(latest_checkpoint(tmp_path / "cut")).owes

    def fails(method, at):
        raise RuntimeError("killed while it makes up for it")

    monkeypatch.setattr("tests.engine.test_online.weight_sum", fails)
    with pytest.raises(RuntimeError, match="killed while"):
        run_online(tmp_path / "cut", **SETTLED)
    monkeypatch.undo()
    run_online(tmp_path / "cut", stop_at_step=7, **SETTLED)
    assert list(evals(tmp_path / "cut")) == [3, 6]
    run_online(tmp_path / "cut", **SETTLED)
    assert evals(tmp_path / "cut") == evals(tmp_path / "whole")
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    ours, theirs = (read_checkpoint(latest_checkpoint(tmp_path / name)) for name in ("cut", "whole"))
    assert (ours.best, ours.plateau, ours.owes) == (theirs.best, theirs.plateau, False)


def test_a_run_that_is_stopped_at_its_last_step_is_finished_once_it_is_measured(tmp_path):
    run_online(tmp_path / "whole", **SETTLED)
    outcome, _ = run_online(tmp_path / "cut", stop=StopAt(24), **SETTLED)
    assert outcome is Outcome.REQUEUE
    assert 24 not in evals(tmp_path / "cut")
    outcome, _ = run_online(tmp_path / "cut", **SETTLED)
    assert outcome is Outcome.FINISHED
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    before = (tmp_path / "cut" / "log.jsonl").stat().st_mtime_ns
    assert run_online(tmp_path / "cut", **SETTLED)[0] is Outcome.FINISHED
    assert (tmp_path / "cut" / "log.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize(("measure", "pick"), [("eval/sum", max), ("eval/val_loss", min)])
def test_the_best_checkpoint_is_that_of_the_weights_that_were_measured(tmp_path, measure, pick):
    run_online(tmp_path, every=4, keep_best=measure, keep=1)
    values = {step: found[measure.removeprefix("eval/")] for step, found in evals(tmp_path).items()}
    best = pick(values, key=values.__getitem__)
    path = latest_checkpoint(tmp_path / "checkpoints" / "best")
    assert path.name == f"step-{best:09d}.pt"
    assert read_checkpoint(path).best == {"measure": measure, "value": values[best], "step": best}


def test_a_value_that_is_not_measured_is_named_with_those_that_are(tmp_path):
    with pytest.raises(InputError, match=r"keep_best eval/top is not in the log .* it has eval/sum, eval/val_loss"):
        run_online(tmp_path, keep_best="eval/top")


@pytest.mark.parametrize("kind", ["keep_best", "schedule"])
def test_a_value_of_a_measure_that_is_never_taken_is_refused_at_the_start(tmp_path, kind):
    options = {"keep_best": "eval/sum"} if kind == "keep_best" else {"schedule": ScheduleConfig("plateau")}
    with pytest.raises(InputError, match=r"(keep_best eval/sum|measure eval/val_loss) .* this run measures nothing"):
        run_online(tmp_path, every=0, **options)
    assert not (tmp_path / "log.jsonl").exists()


def test_measuring_is_no_part_of_the_time_of_a_step(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("engine.log.time.perf_counter", lambda: clock[0])

    def slow(method, at):
        clock[0] += 1000.0
        return {"a": 1.0}

    monkeypatch.setattr("tests.engine.test_online.weight_sum", slow)
    run_online(tmp_path, every=3)
    assert all(record["step_s"] < 1 for record in read_log(tmp_path / "log.jsonl"))
    assert clock[0] >= 8000.0


def test_the_watch_hears_of_every_batch_and_then_of_the_wait_for_others():
    told = []
    batches = watched(iter("ab"), told.append)
    assert told == []
    assert list(batches) == ["a", "b"]
    assert told == [Stage.EVALUATE] * 3 + [Stage.COMPARE]
    assert Stage.AGREE < Stage.EVALUATE < Stage.COMPARE < Stage.LOG  # one that waits is ahead of one that works


def test_modes_of_modules_are_put_back_one_by_one():
    method = TinyMethod().train()
    method.backbone.eval()
    before = {name: module.training for name, module in method.named_modules()}
    Online([OnlineMeasure(2, weight_sum)], num_steps=9).take(9, method, lambda stage: None)
    assert {name: module.training for name, module in method.named_modules()} == before


def test_values_that_are_not_finite_are_logged_as_null(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.engine.test_online.weight_sum", lambda method, at: {"a": math.nan})
    run_online(tmp_path, every=24)
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["evals"] == {"a": None}


def _measured(world, folder):
    torch.set_num_threads(1)
    run_online(Path(folder), world=world, keep_best="eval/sum", schedule=ScheduleConfig("plateau", measure="eval/sum"))


def test_two_ranks_measure_judge_and_save_once(tmp_path, two_ranks):
    two_ranks.run(_measured, str(tmp_path))
    values = {step: found["sum"] for step, found in evals(tmp_path).items()}
    assert list(values) == [4, 8, 12, 16, 20, 24]
    best = max(values, key=values.__getitem__)
    assert latest_checkpoint(tmp_path / "checkpoints" / "best").name == f"step-{best:09d}.pt"


def test_a_run_without_measures_has_none_in_its_log(tmp_path):
    run_tiny(tmp_path)
    assert evals(tmp_path) == {}
