"""Steps whose loss or gradient is not finite are left out within a budget, and leave no trace but a count."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from data_process.errors import InputError, RunError
from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.log import read_log
from engine.precision import PrecisionConfig
from engine.train_config import TrainConfig
from engine.trainer import Outcome
from tests.engine.test_trainer import assert_same_run
from tests.engine.tiny import TinyLoader, TinyMethod, run_tiny


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class FaultyLoader(TinyLoader):
    """Some steps' clips or targets hold a number that is none."""

    def __init__(self, *, clips=(), targets=(), **options):
        super().__init__(**options)
        self.clips, self.targets = clips, targets

    def batches(self, start_step):
        for step, batch in enumerate(super().batches(start_step), start=start_step):
            if step in self.clips:
                (clips,) = batch.clips
                clips = clips.index_fill(0, torch.tensor([1]), math.nan)
                batch = dataclasses.replace(batch, clips=(clips,))
            if step in self.targets:
                value = batch.targets["value"].index_fill(0, torch.tensor([0]), math.inf)
                batch = dataclasses.replace(batch, targets={"value": value})
            yield batch


BAD = {"clips": (5, 10), "targets": (11,)}


def test_skipped_steps_are_those_of_a_plain_loop_that_leaves_them_out(tmp_path):
    _, trained = run_tiny(
        tmp_path, method=TinyMethod(dropout=0.0), loader=FaultyLoader(**BAD), max_skipped=3, steps=14, save_every=100
    )
    plain = TinyMethod(dropout=0.0).train()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for step, batch in zip(range(14), TinyLoader().batches(0), strict=False):
        if step in (5, 10, 11):
            continue
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (step + 1) / 3 if step < 3 else 0.05 * (1 + math.cos(math.pi * (step - 3) / 11))
        optimizer.zero_grad()
        sum(plain(batch).losses.values()).backward()
        optimizer.step()
        plain.after_step()
    for name, value in plain.state_dict().items():  # running statistics and the bank among them
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert all(value.isfinite().all() for value in trained.state_dict().values())


def test_skipped_steps_are_counted_over_a_resume_which_is_bitwise(tmp_path, caplog):
    options = {"max_skipped": 3, "log_every": 1}
    run_tiny(tmp_path / "whole", loader=FaultyLoader(**BAD), **options)
    for stop in (6, 11, 24):
        run_tiny(tmp_path / "cut", loader=FaultyLoader(**BAD), stop_at_step=stop, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    records = read_log(tmp_path / "cut" / "log.jsonl")
    assert [record["skipped"] for record in records] == [0] * 5 + [1] * 5 + [2] + [3] * 13
    assert records[5]["losses"]["total"] is records[5]["grad_norm"] is None
    assert read_checkpoint(latest_checkpoint(tmp_path / "cut")).num_skipped == 3
    assert f"--run {tmp_path / 'cut'} --step 10` shows its batch. Step skipped, 2 of at most 3" in caplog.text


def test_one_more_than_the_budget_stops_the_run_before_its_weights_suffer(tmp_path):
    with pytest.raises(RunError, match=r"the loss of step 11 is .*The 2 steps that train\.max_skipped allows"):
        run_tiny(tmp_path, loader=FaultyLoader(**BAD), max_skipped=2)
    left = read_checkpoint(tmp_path / "checkpoints" / "nonfinite-000000011.pt")
    assert (left.step, left.num_skipped) == (11, 2)
    assert all(value.isfinite().all() for value in left.method.values())
    outcome, _ = run_tiny(tmp_path, loader=FaultyLoader(**BAD), max_skipped=3)
    assert outcome is Outcome.FINISHED


def test_in_a_run_without_faults_a_budget_changes_nothing(tmp_path):
    run_tiny(tmp_path / "without")
    run_tiny(tmp_path / "with", max_skipped=5)
    assert_same_run(tmp_path / "with", tmp_path / "without")


class BadGradient(TinyMethod):
    """A finite loss whose gradient is none in step 4."""

    def forward(self, batch):
        output = super().forward(batch)
        if int(self.calls) == 4 and not hasattr(self, "was_bad"):
            self.was_bad = True
            output.losses["value"] += 0.0 * (0.0 * output.losses["value"]).sqrt()
        return output


def test_a_gradient_that_is_not_finite_is_a_fault_though_its_loss_is(tmp_path, caplog):
    outcome, method = run_tiny(tmp_path, method=BadGradient(), max_skipped=1)
    assert outcome is Outcome.FINISHED
    assert int(method.calls) == 23
    assert "the gradient of step 4 is infinite or NaN" in caplog.text


def test_overflowing_gradients_of_fp16_are_no_faults(tmp_path):
    precision = PrecisionConfig("fp16")
    outcome, method = run_tiny(tmp_path, method=BadGradient(), max_skipped=1, precision=precision)
    assert outcome is Outcome.FINISHED
    assert read_log(tmp_path / "log.jsonl")[-1]["skipped"] == 0
    assert method.was_bad
    assert all(value.isfinite().all() for value in method.parameters())


def test_an_infinite_loss_under_fp16_is_a_fault(tmp_path):
    run_tiny(tmp_path, loader=FaultyLoader(targets=(3,)), max_skipped=1, precision=PrecisionConfig("fp16"))
    assert read_log(tmp_path / "log.jsonl")[-1]["skipped"] == 1


def test_micro_batches_are_skipped_as_a_whole_step(tmp_path):
    options = {"method": TinyMethod(norm=False, dropout=0.0), "max_skipped": 3, "loader": FaultyLoader(**BAD)}
    _, one = run_tiny(tmp_path / "one", **options)
    options |= {"method": TinyMethod(norm=False, dropout=0.0), "loader": FaultyLoader(**BAD)}
    _, passes = run_tiny(tmp_path / "passes", accumulate=4, **options)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(passes.state_dict()[name], value, rtol=0, atol=1e-6, msg=name)


def _with_a_faulty_rank(world, folder):
    torch.set_num_threads(1)
    bad = BAD if world.rank == 1 else {}
    loader = FaultyLoader(rank=world.rank, world_size=world.world_size, **bad)
    _, method = run_tiny(Path(folder), world=world, loader=loader, max_skipped=3)
    return int(method.calls), [value.sum().item() for value in method.parameters()]


def test_all_ranks_skip_what_one_of_them_cannot_use(tmp_path, two_ranks):
    ranks = two_ranks.run(_with_a_faulty_rank, str(tmp_path))
    assert ranks[0] == ranks[1]
    assert ranks[0][0] == 21
    assert read_log(tmp_path / "log.jsonl")[-1]["skipped"] == 3


def test_a_budget_below_nothing_is_refused():
    with pytest.raises(InputError, match=r"train\.max_skipped must not be negative, got -1"):
        TrainConfig(steps=1, max_skipped=-1)
