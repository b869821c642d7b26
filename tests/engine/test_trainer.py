import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_process.errors import InputError, RunError
from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.log import EXACT_KEYS, read_log
from engine.optim import OptimConfig
from engine.stop import Stop, StopFlag
from engine.trainer import Outcome
from engine.world import World
from tests.engine.tiny import TinyLoader, TinyMethod, run_tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def exact_log(run):
    return [{key: entry[key] for key in EXACT_KEYS} for entry in read_log(run / "log.jsonl")]


def tensors(value, name=""):
    """Every tensor and number inside nested containers, by its path."""
    if isinstance(value, dict):
        return {key: leaf for k, v in value.items() for key, leaf in tensors(v, f"{name}/{k}").items()}
    if isinstance(value, list | tuple):
        return tensors(dict(enumerate(value)), name)
    return {name: value}


def assert_same_run(run, other):
    ours, theirs = (read_checkpoint(latest_checkpoint(folder)) for folder in (run, other))
    assert ours.step == theirs.step
    for part in ("method", "optimizer", "scaler"):
        left, right = tensors(getattr(ours, part)), tensors(getattr(theirs, part))
        assert left.keys() == right.keys()
        for name, value in left.items():
            same = torch.equal(value, right[name]) if isinstance(value, torch.Tensor) else value == right[name]
            assert same, f"{part}{name} differs"
    assert exact_log(run) == exact_log(other)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_stopping_and_going_on_is_bitwise_the_unbroken_run(tmp_path, name):
    optim = OptimConfig(name, lr=0.02)
    run_tiny(tmp_path / "whole", optim=optim)
    for step in (1, 7, 8, 20):
        outcome, _ = run_tiny(tmp_path / "cut", optim=optim, stop_at_step=step)
        assert outcome is Outcome.PAUSED
    outcome, _ = run_tiny(tmp_path / "cut", optim=optim)
    assert outcome is Outcome.FINISHED
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("seed", [0, 1])
def test_sigkill_at_random_steps_leaves_no_trace(tmp_path, seed):
    command = [sys.executable, "-m", "tests.engine.killed_run", str(tmp_path / "cut"), "4", str(seed)]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120).stdout
    killed = [line.split()[1] == "True" for line in output.splitlines()]
    assert killed == [True] * 4 + [False]
    run_tiny(tmp_path / "whole", log_every=1)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_the_log_holds_the_mean_losses_and_rate_of_each_step(tmp_path):
    run_tiny(tmp_path, log_every=5)
    entries = read_log(tmp_path / "log.jsonl")
    assert [entry["step"] for entry in entries] == [5, 10, 15, 20, 24]
    assert [entry["epoch"] for entry in entries] == [1, 3, 4, 6, 7]
    for entry in entries:
        losses = entry["losses"]
        assert losses["total"] == pytest.approx(losses["value"] + losses["bank"], rel=1e-6)
        assert entry["lr"] == pytest.approx(0.05 * (1 + math.cos(math.pi * (entry["step"] - 1 - 3) / 21)))
    assert entries[-1]["losses"]["value"] < entries[0]["losses"]["value"]


def test_the_loop_is_a_plain_training_loop(tmp_path):
    _, trained = run_tiny(tmp_path, method=TinyMethod(dropout=0.0), steps=5)
    plain = TinyMethod(dropout=0.0).train()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for step, batch in zip(range(5), TinyLoader().batches(0), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (step + 1) / 3 if step < 3 else 0.05 * (1 + math.cos(math.pi * (step - 3) / 2))
        optimizer.zero_grad()
        sum(plain(batch).losses.values()).backward()
        optimizer.step()
        plain.after_step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_recomputing_changes_no_weight_and_no_statistic(tmp_path):
    _, kept = run_tiny(tmp_path / "kept", steps=5)
    _, recomputed = run_tiny(tmp_path / "recomputed", steps=5, recompute=True)
    assert recomputed.backbone.recompute
    assert not kept.backbone.recompute
    for name, value in kept.state_dict().items():
        assert torch.equal(value, recomputed.state_dict()[name]), name


def test_a_finished_run_started_again_touches_nothing(tmp_path):
    run_tiny(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    outcome, _ = run_tiny(tmp_path)
    assert outcome is Outcome.FINISHED
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert json.loads((tmp_path / "heartbeat.json").read_text())["state"] == "finished"


def test_a_longer_run_goes_on_where_a_shorter_one_ended(tmp_path):
    run_tiny(tmp_path, steps=6)
    outcome, _ = run_tiny(tmp_path, steps=8)
    assert outcome is Outcome.FINISHED
    assert read_log(tmp_path / "log.jsonl")[-1]["step"] == 8


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (Stop.TERMINATE, Outcome.TERMINATED),
        (Stop.REQUEUE, Outcome.REQUEUE),
        (Stop.INTERRUPT, Outcome.INTERRUPTED),
    ],
)
def test_a_stop_finishes_the_step_saves_and_says_why(tmp_path, reason, outcome):
    stop = StopFlag(World())
    stop.ask(reason)
    assert run_tiny(tmp_path, stop=stop, save_every=1000)[0] is outcome
    assert read_checkpoint(latest_checkpoint(tmp_path)).step == 1
    assert json.loads((tmp_path / "heartbeat.json").read_text())["state"] == outcome.value


def test_a_stop_in_the_last_step_does_not_ask_to_be_requeued(tmp_path):
    now = iter([0.0, 0.0, 0.0, 0.0, 99.0])  # construction, then one reading a step
    stop = StopFlag(World(), after_seconds=60, clock=lambda: next(now))
    assert run_tiny(tmp_path, stop=stop, steps=4)[0] is Outcome.FINISHED


def test_a_non_finite_loss_fails_with_its_step_and_resume_stands_on_good_weights(tmp_path):
    shown = re.escape(f"`intravid inspect --run {tmp_path} --step 8` shows its batch")
    with pytest.raises(RunError, match=rf"the loss of step 8 is infinite or NaN; {shown}.*optim\.lr"):
        run_tiny(tmp_path, method=TinyMethod(poison_at=8))
    assert read_checkpoint(tmp_path / "checkpoints/nonfinite-000000009.pt").step == 9
    assert read_checkpoint(latest_checkpoint(tmp_path)).step == 6
    assert run_tiny(tmp_path)[0] is Outcome.FINISHED
    run_tiny(tmp_path / "whole")
    assert_same_run(tmp_path, tmp_path / "whole")


def test_resuming_with_another_seed_or_batch_is_refused(tmp_path):
    run_tiny(tmp_path, stop_at_step=3)
    with pytest.raises(InputError, match=r"train\.seed was 1, is now 2"):
        run_tiny(tmp_path, seed=2)
    with pytest.raises(InputError, match=r"train\.global_batch was 8, is now 4"):
        run_tiny(tmp_path, global_batch=4)


def test_a_checkpoint_of_another_method_is_refused_by_its_keys(tmp_path):
    run_tiny(tmp_path, stop_at_step=3)
    with pytest.raises(InputError, match=r"(?s)does not fit the method.*backbone\.conv\.bias"):
        run_tiny(tmp_path, method=TinyMethod(norm=False))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"steps": None}, r"either train\.epochs or train\.steps"),
        ({"epochs": 3}, r"either train\.epochs or train\.steps"),
        ({"recompute": True, "compile": True}, r"train\.recompute cannot be used with train\.compile"),
        ({"log_every": 0}, r"train\.log_every must be at least 1, got 0"),
        ({"steps": 2}, r"schedule\.warmup \(3\)"),
    ],
)
def test_contradicting_settings_are_named_before_the_first_step(tmp_path, options, text):
    with pytest.raises(InputError, match=text):
        run_tiny(tmp_path, **options)
    assert not (tmp_path / "log.jsonl").exists()


def test_a_batch_that_does_not_divide_names_the_setting(tmp_path):
    with pytest.raises(InputError, match=r"train\.global_batch \(8\) must be divisible by the 3 ranks"):
        run_tiny(tmp_path, world=World(world_size=3), loader=TinyLoader())


def test_a_loader_that_ends_early_fails_the_run(tmp_path):
    with pytest.raises(RunError, match="the loader ended after step 5, 24 were to be done"):
        run_tiny(tmp_path, loader=TinyLoader(ends_after=5))


def test_epochs_are_counted_in_steps_of_the_loader(tmp_path):
    run_tiny(tmp_path, steps=None, epochs=2)
    assert read_checkpoint(latest_checkpoint(tmp_path)).step == 2 * TinyLoader.steps_per_epoch


def _trained_on_two_ranks(world, folder, stop_at_step, options):
    torch.set_num_threads(1)
    # Without common statistics ranks see other batch norms than one process does.
    method = TinyMethod(norm=options.get("sync_batch_norm", False), dropout=0.0)
    outcome, method = run_tiny(Path(folder), world=world, method=method, stop_at_step=stop_at_step, **options)
    return outcome, {name: value.detach().numpy() for name, value in method.named_parameters()}


@pytest.mark.parametrize("options", [{}, {"static_graph": True}, {"sync_batch_norm": True}], ids=str)
def test_two_ranks_train_what_one_process_trains_at_the_same_global_batch(tmp_path, two_ranks, options):
    ranks = two_ranks.run(_trained_on_two_ranks, str(tmp_path / "two"), 0, options)
    norm = options.get("sync_batch_norm", False)
    _, alone = run_tiny(tmp_path / "one", method=TinyMethod(norm=norm, dropout=0.0))
    assert [outcome for outcome, _ in ranks] == [Outcome.FINISHED] * 2
    for name, value in alone.named_parameters():
        np.testing.assert_array_equal(ranks[0][1][name], ranks[1][1][name])
        np.testing.assert_allclose(ranks[0][1][name], value.detach().numpy(), atol=1e-6)
    for ours, theirs in zip(exact_log(tmp_path / "one"), exact_log(tmp_path / "two"), strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], abs=1e-6)
        assert ours["plan_digest"] == theirs["plan_digest"] != "0" * 16


def test_two_ranks_resume_bitwise(tmp_path, two_ranks):
    two_ranks.run(_trained_on_two_ranks, str(tmp_path / "whole"), 0, {})
    stopped = two_ranks.run(_trained_on_two_ranks, str(tmp_path / "cut"), 10, {})
    assert [outcome for outcome, _ in stopped] == [Outcome.PAUSED] * 2
    two_ranks.run(_trained_on_two_ranks, str(tmp_path / "cut"), 0, {})
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


class _SignalledLoader(TinyLoader):
    """Sends this process a signal before the batch of step 5."""

    def batches(self, start_step):
        for step, batch in enumerate(super().batches(start_step), start=start_step):
            if step == 5:
                os.kill(os.getpid(), signal.SIGUSR2)
            yield batch


def _trained_with_a_signal_to_rank_1(world, folder):
    torch.set_num_threads(1)
    make = _SignalledLoader if world.rank == 1 else TinyLoader
    with StopFlag(world).watching() as stop:
        outcome, method = run_tiny(
            Path(folder), world=world, loader=make(rank=world.rank, world_size=world.world_size), stop=stop
        )
    return outcome, int(method.calls)


def test_a_signal_to_one_rank_saves_and_ends_both_after_the_same_step(tmp_path, two_ranks):
    ranks = two_ranks.run(_trained_with_a_signal_to_rank_1, str(tmp_path))
    assert ranks == [(Outcome.REQUEUE, 6)] * 2
    assert read_checkpoint(latest_checkpoint(tmp_path)).step == 6


def _poisoned_on_rank_1(world, folder):
    with pytest.raises(RunError, match=r"the loss of step 8 .* on rank 1; .*--step 8 --rank 1 --ranks 2`"):
        run_tiny(Path(folder), world=world, method=TinyMethod(poison_at=8 if world.rank == 1 else None))


def test_a_non_finite_loss_of_one_rank_fails_all_of_them(tmp_path, two_ranks):
    two_ranks.run(_poisoned_on_rank_1, str(tmp_path))
    assert read_checkpoint(tmp_path / "checkpoints/nonfinite-000000009.pt").step == 9


def _asked_with_other_seeds(world, folder):
    with pytest.raises(InputError) as caught:
        run_tiny(Path(folder), world=world, seed=1 + world.rank)
    return str(caught.value)


def test_ranks_with_different_settings_are_refused_together(tmp_path, two_ranks):
    first, second = two_ranks.run(_asked_with_other_seeds, str(tmp_path))
    assert first == second
    assert "rank 1 has" in first
