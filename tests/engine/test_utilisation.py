"""What the log tells of speed and use: counted operations, shares, the norm of the gradient."""

import math
from pathlib import Path

import pytest
import torch

from engine.log import read_log
from engine.precision import PrecisionConfig
from engine.utilisation import StepFlops, peak_flops
from tests.engine.tiny import TinyLoader, TinyMethod, run_tiny

CPU = torch.device("cpu")
CONV = 8 * 4 * (2 * 4 * 4) * 3 * 27
"""Multiply-adds of the tiny network's convolution for 8 clips, padding counted; no gradient of the clips is wanted."""
HEAD = 8 * 4 * 2
STEP = 2 * (2 * CONV + 3 * HEAD)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def records(run):
    return read_log(run / "log.jsonl")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_operations_are_those_of_one_step_by_hand(tmp_path, accumulate):
    run_tiny(tmp_path, steps=6, accumulate=accumulate)
    for record in records(tmp_path):
        assert record["flops_per_s"] == pytest.approx(STEP / record["step_s"], rel=1e-9)
        assert record["mfu"] is None  # the peak of a CPU is not known


def _counted(world, folder):
    torch.set_num_threads(1)
    run_tiny(Path(folder), world=world, steps=3)


def test_each_rank_counts_its_own_part(tmp_path, two_ranks):
    two_ranks.run(_counted, str(tmp_path))
    record = records(tmp_path)[-1]
    assert record["flops_per_s"] == pytest.approx(STEP / 2 / record["step_s"], rel=1e-9)


def test_only_the_first_step_is_counted_and_the_share_is_of_the_peak():
    cost = StepFlops(CPU, PrecisionConfig(), enabled=True)
    assert cost.rates(0.5) == {"flops_per_s": None, "mfu": None}
    for size in (3, 30):
        with cost.counted():
            torch.ones(size, size) @ torch.ones(size, size)
    assert cost.flops == 2 * 27
    cost.peak = 1080.0
    assert cost.rates(0.5) == {"flops_per_s": 108.0, "mfu": 0.1}
    compiled = StepFlops(CPU, PrecisionConfig(), enabled=False)
    with compiled.counted():
        torch.ones(3, 3) @ torch.ones(3, 3)
    assert compiled.flops is None


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", PrecisionConfig("bf16"), 989.5e12),
        ("NVIDIA H100 PCIe", PrecisionConfig("bf16"), 756e12),
        ("NVIDIA H200", PrecisionConfig("fp32"), 494.7e12),
        ("NVIDIA A100-SXM4-80GB", PrecisionConfig("fp32", tf32=False), 19.5e12),
        ("Tesla V100-SXM2-32GB", PrecisionConfig("fp32"), 15.7e12),
        ("Tesla V100-SXM2-32GB", PrecisionConfig("bf16"), None),
        ("Some other device", PrecisionConfig("bf16"), None),
    ],
    ids=str,
)
def test_the_peak_is_that_of_the_device_and_precision(name, precision, peak):
    assert peak_flops(name, precision) == peak


def test_the_norm_is_that_of_the_gradients_before_they_are_clipped(tmp_path):
    run_tiny(tmp_path, method=TinyMethod(dropout=0.0), steps=4, log_every=1)
    method = TinyMethod(dropout=0.0).train()
    sum(method(next(TinyLoader().batches(0))).losses.values()).backward()
    norm = math.sqrt(sum(float(value.grad.square().sum()) for value in method.parameters()))
    assert records(tmp_path)[0]["grad_norm"] == pytest.approx(norm, rel=1e-5)


class SlowLoader(TinyLoader):
    """Claims that half of a second was waited for, each time."""

    def batches(self, start_step):
        for batch in super().batches(start_step):
            self.wait_s += 100.0
            yield batch


def test_speeds_and_shares_fit_together(tmp_path):
    run_tiny(tmp_path / "quick", steps=4)
    for record in records(tmp_path / "quick"):
        assert record["samples_per_s"] == pytest.approx(8 / record["step_s"])
        assert record["clips_per_s"] == record["samples_per_s"]  # of one view
        assert record["data_wait_share"] == 0.0
        assert record["host_memory_mb"] > 50
    run_tiny(tmp_path / "slow", steps=4, loader=SlowLoader())
    assert records(tmp_path / "slow")[-1]["data_wait_share"] == 1.0
