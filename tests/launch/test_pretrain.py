"""The command itself, as a user starts it: killed, resumed, started again, on one process and on two."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch

from data_process.shard_writer import write_dataset
from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.log import EXACT_KEYS, read_log

REPOSITORY = Path(__file__).parents[2]
RECIPE = REPOSITORY / "configs" / "smoke" / "iic.yaml"
STEPS = 14


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    rng = np.random.default_rng(0)

    def videos():
        for number in range(16):
            frames = rng.integers(0, 255, (20 + number, 40, 52, 3)).astype(np.uint8)
            facts = {"id": f"v{number:02d}", "label": number % 2, "width": 52, "height": 40}
            yield facts, [simplejpeg.encode_jpeg(frame, quality=80) for frame in frames]

    return write_dataset(tmp_path_factory.mktemp("shards"), videos(), classes=["a", "b"], videos_per_shard=6)


def command(shards, run, *overrides):
    fixed = [f"--data.root={shards}", f"--run_dir={run}", f"--train.steps={STEPS}", "--train.log_every=1"]
    rest = ["--train.save_every=3", "--train.tensorboard=false", "--pipeline.threads=1", *overrides]
    return ["-m", "launch", "pretrain", str(RECIPE), *fixed, *rest]


def start(words, **options):
    environ = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, *words], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def finish(words):
    process = start(words)
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def kill_at(words, run, step):
    process = start(words)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            log = run / "log.jsonl"
            if log.exists() and log.read_bytes().count(b"\n") >= step:
                break
            time.sleep(0.005)
        assert process.poll() is None, process.stdout.read()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def exact(run):
    return [{key: record[key] for key in EXACT_KEYS} for record in read_log(run / "log.jsonl")]


def assert_same_run(one, two):
    a, b = (read_checkpoint(latest_checkpoint(run)) for run in (one, two))
    assert a.step == b.step == STEPS
    assert any("banks" in name for name in a.method)
    for name in a.method:
        assert torch.equal(a.method[name], b.method[name]), name
    assert exact(one) == exact(two)


BACKENDS = ["host", pytest.param("dali", marks=pytest.mark.skipif(not find_spec("nvidia"), reason="DALI is missing"))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_killed_at_any_step_ends_as_an_unbroken_one(shards, tmp_path, backend):
    option = f"--pipeline.backend={backend}"
    status, output = finish(command(shards, tmp_path / "whole", option))
    assert status == 0, output
    step = int(np.random.default_rng().integers(1, STEPS - 1))
    words = command(shards, tmp_path / "killed", option)
    kill_at(words, tmp_path / "killed", step)
    status, output = finish(words)
    assert status == 0, f"killed at step {step}: {output}"
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    status, output = finish(words)
    assert status == 0
    assert "nothing is left to do" in output


def test_two_ranks_of_torchrun_see_the_clips_of_one_process(shards, tmp_path):
    status, output = finish(command(shards, tmp_path / "one"))
    assert status == 0, output
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}", "--"]
    status, output = finish([*launcher, "-m", *command(shards, tmp_path / "two")[1:]])
    assert status == 0, output
    one, two = ([record["plan_digest"] for record in read_log(tmp_path / run / "log.jsonl")] for run in ("one", "two"))
    assert one == two
    assert len(set(one)) == STEPS


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["--train.global_batch=64"], "train.global_batch (64) must lie between 1 and the 16 videos"),
        (["--data.split=val"], "holds no split 'val'"),
        (["--data.root=nowhere"], "nowhere is not a folder"),
        (["--train.stepz=3"], "did you mean train.steps?"),
    ],
    ids=["batch", "split", "root", "typo"],
)
def test_bad_input_is_one_paragraph_and_status_2(shards, tmp_path, overrides, said):
    status, output = finish(command(shards, tmp_path / "run", *overrides))
    assert status == 2
    assert said in output
    assert "Traceback" not in output
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_batch_that_does_not_divide_is_refused_before_a_job_is_queued(shards, tmp_path):
    words = command(shards, tmp_path / "run", "--train.global_batch=9")
    words[2:3] = ["submit", "pretrain"]
    status, output = finish([*words, "--nodes=2", "--dry-run"])
    assert status == 2
    assert "must be divisible by the 2 ranks" in output


def test_resume_refuses_other_samples(shards, tmp_path):
    run = tmp_path / "run"
    assert finish(command(shards, run, "--train.stop_at_step=4"))[0] == 0
    status, output = finish(command(shards, run, "--train.seed=5"))
    assert status == 2
    assert "train.seed was 632, is now 5" in output
    path = latest_checkpoint(run)
    content = torch.load(path, weights_only=True)
    content["plan_version"] += 1
    torch.save(content, path)
    status, output = finish(command(shards, run))
    assert status == 2
    assert "plan version" in output
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-1])["step"] == 4
