"""Starts the command as a user does, on tiny settings, and compares what runs leave behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.log import EXACT_KEYS, read_log

ROOT = Path(__file__).parents[2]
RECIPE = "configs/smoke/iic.yaml"
LIMIT_S = 120
"""Of every wait; importing torch on a busy machine takes most of it."""

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TINY = {
    "method.backbone.width": 2,
    "method.clip.num_frames": 4,
    "method.clip.size": 16,
    "train.log_every": 1,
    "train.tensorboard": "false",
    "pipeline.threads": 1,
    "dist.device": "cpu",
}


def pretrain_words(run, shards, settings=()):
    """`pretrain` with recipe and overrides of a tiny run."""
    overrides = {"run_dir": run, "data.root": shards, **TINY, **dict(settings)}
    return ["pretrain", RECIPE, *(f"--{name}={value}" for name, value in overrides.items())]


def environment():
    """Without what a surrounding job or torchrun would say about ranks."""
    of_ranks = ("SLURM", "SUBMITIT", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(of_ranks)}
    return {**kept, "OMP_NUM_THREADS": "1"}


def start(words, *, under=(sys.executable,)):
    """The command as a process of its own, under torchrun where asked."""
    return subprocess.Popen(
        [*under, "-m", "launch", *map(str, words)],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    """Exit status and standard error."""
    try:
        _, said = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, said


def complete(words, *, under=(sys.executable,)):
    """Run to its end: standard error."""
    status, said = finish(start(words, under=under))
    assert status == 0, said
    return said


def stop_at(process, run, step, number=signal.SIGKILL):
    """Send a signal once the log has reached a step; the step that it had reached when the process was gone."""
    deadline = time.monotonic() + LIMIT_S
    log = run / "log.jsonl"
    while not (log.exists() and any(record["step"] >= step for record in read_log(log))):
        assert process.poll() is None, f"ended before step {step}: {finish(process)}"
        assert time.monotonic() < deadline, f"step {step} did not come"
        time.sleep(0.005)
    process.send_signal(number)
    finish(process)
    return read_log(log)[-1]["step"]


def heartbeat(run):
    return json.loads((run / "heartbeat.json").read_text())


def digests(run):
    return [record["plan_digest"] for record in read_log(run / "log.jsonl")]


def exact_log(run):
    return [{key: record[key] for key in EXACT_KEYS} for record in read_log(run / "log.jsonl")]


def assert_same_run(one, other, *, steps):
    """Both ran to `steps`, with bitwise the same weights, banks, optimizer, averages and log of every step."""
    left, right = (read_checkpoint(latest_checkpoint(run)) for run in (one, other))
    assert left.step == right.step == steps
    assert_same(left.method, right.method)
    assert_same(left.optimizer, right.optimizer)
    assert_same(left.ema, right.ema)
    assert_same(left.best, right.best)
    assert_same(left.plateau, right.plateau)
    assert left.num_skipped == right.num_skipped
    assert [record["step"] for record in exact_log(one)] == list(range(1, steps + 1))
    assert exact_log(one) == exact_log(other)


def assert_same(left, right):
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            assert_same(left[name], right[name])
    else:
        assert left == right
