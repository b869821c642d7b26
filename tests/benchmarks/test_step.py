import json
import subprocess
import sys

import pytest
import torch

from benchmarks import step
from benchmarks.lockstep import Steps, bare_loop, make_batches, make_method, step_cost
from launch.cli import main
from models.backbones.r3d import R3D
from models.cost import backbone_cost
from tests.launch.runs import ROOT

SMALL = ["--device", "cpu", "--width", "2", "--batch", "4", "--frames", "4", "--size", "16", "--steps", "8"]
OFTEN = ["--warmup", "2", "--log-every", "3", "--save-every", "4"]


def measured(tmp_path, *words):
    threads = str(torch.get_num_threads())
    assert step.main([*SMALL, *OFTEN, "--threads", threads, "--json", str(tmp_path / "step.json"), *words]) == 0
    return json.loads((tmp_path / "step.json").read_text())


def do(**changes):
    settings = {"batch": 2, "frames": 4, "size": 16, "steps": 2, "log_every": 1, "save_every": 2}
    return Steps(**settings | {"channels_last": True, "bf16": False, "device": torch.device("cpu")} | changes)


def test_every_network_has_both_speeds_and_its_share_of_the_ceilings(tmp_path):
    told = measured(tmp_path, "--networks", "r3d", "r2d3d")
    assert list(told["rows"]) == ["r3d", "r2d3d"]
    for row in told["rows"].values():
        assert min(row[name] for name in ("bare, clips/s", "engine, clips/s", "of matmul", "of copy")) > 0
        assert min(row[name] for name in ("engine / bare", "with a record", "with a checkpoint")) > 0
        assert row["beside its writing"] > 0
        assert row["peak, GiB"] is None
    assert [goal["what"] for goal in told["goals"]] == [
        "engine / bare, median of the networks", "engine / bare, r3d", "engine / bare, r2d3d",
        "with a checkpoint, median of the networks", "beside its writing, median of the networks",
    ]  # fmt: skip
    assert "4 clips of 4 x 16 x 16, width 2, float32, cpu" in told["setting"]


def test_bfloat16_is_a_switch(tmp_path):
    told = measured(tmp_path, "--networks", "r3d", "--bf16")
    torch.backends.mkldnn.enabled = True  # which bfloat16 on the CPU does without
    assert "bfloat16" in told["setting"]
    assert told["rows"]["r3d"]["engine / bare"] > 0


@pytest.mark.slow
def test_both_loops_are_compiled_where_asked():
    # In a process of its own: warnings of torch's compiler would be errors here.
    words = [*SMALL, *OFTEN, "--networks", "r2d3d", "--compiled"]
    ran = subprocess.run(
        [sys.executable, "-m", "launch", "bench", "step", *words], cwd=ROOT, capture_output=True, text=True, timeout=250
    )
    assert ran.returncode == 0, ran.stderr
    assert "r2d3d, compiled" in ran.stdout


def test_a_step_takes_three_times_the_operations_of_a_forward_pass():
    method = make_method(lambda: R3D(width=4), do())
    (batch, *_) = make_batches(method, do())
    before = {name: value.clone() for name, value in method.named_parameters()}
    cost = step_cost(method, batch, do())
    parts = backbone_cost(method.backbone, num_frames=4, height=16, width=16)
    stem = 2 * 3 * 4 * (3 * 7 * 7) * 4 * 8 * 8  # no gradient of the clip is wanted
    expected = 2 * (3 * 2 * parts[-1].macs - stem)
    assert expected <= cost.flops < 1.02 * expected  # and a few products with the rows of the bank
    weights = sum(value.nbytes for value in method.parameters())
    assert cost.moved_bytes >= 2 * 2 * parts[-1].kept_bytes + 3 * weights
    assert all(torch.equal(value, before[name]) for name, value in method.named_parameters())


def test_the_bare_loop_learns():
    method = make_method(lambda: R3D(width=4), do())
    (batch, *_) = make_batches(method, do())
    take = bare_loop(method, do(), compiled=False)
    first = sum(method(batch).losses.values()).item()
    for _ in range(5):
        take(batch)
    assert sum(method(batch).losses.values()).item() < first


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(capsys):
    assert main(["bench", "step", "--device", "cuda"]) == 2
    assert "torch sees no GPU" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_the_peak_of_memory_is_told(tmp_path):
    told = measured(tmp_path, "--device", "cuda", "--networks", "r3d", "--no-compiled")
    assert told["rows"]["r3d"]["peak, GiB"] > 0


def test_a_wrong_network_is_told_before_anything_is_measured(capsys):
    assert main(["bench", "step", "--device", "cpu", "--networks", "r3d", "r5d"]) == 2
    assert "there is no backbone 'r5d'" in capsys.readouterr().err
