"""Loaders that run for long keep their size, and leave nothing behind when they end, however they end.

INTRAVID_SOAK sets the number of batches (20000 takes minutes); memory after a tenth of them is compared with that at
the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BATCHES = int(os.environ.get("INTRAVID_SOAK", "1000"))

PROGRAM = """
import gc, json, os, sys, threading
from pathlib import Path

import torch

from pipelines.loader import PipelineConfig, build_loader
from pipelines.plan import OPERATIONS
from tests.pipelines.memory_shards import RandomPlanner, generated

backend, batches, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)


def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024


def left():
    gc.collect()
    return {
        "threads": len(os.listdir("/proc/self/task")), "files": len(os.listdir("/proc/self/fd")),
        "shared": sorted(os.listdir("/dev/shm")),
    }


def run(count):
    planner = RandomPlanner(frozenset(OPERATIONS), num_views=2, num_frames=2)
    config = PipelineConfig(backend=backend, threads=2)
    sizes = []
    with build_loader(generated(8), planner, planner.clip_format(16), config=config, seed=0, global_batch=2) as loader:
        for number, batch in enumerate(loader.batches(0), start=1):
            if number in (count // 10, count):
                sizes.append(resident())
            if number == count:
                break
            if how == "exception" and number == 20:
                raise ZeroDivisionError
            if how == "interrupt" and number == 20:
                raise KeyboardInterrupt
    return sizes


try:
    run(30)  # what is loaded once
except (ZeroDivisionError, KeyboardInterrupt):
    pass
before = left()
sizes = []
try:
    sizes = run(batches)
except (ZeroDivisionError, KeyboardInterrupt):
    pass
print(json.dumps({"sizes": sizes, "before": before, "after": left()}))
"""


def soaked(backend: str, batches: int, how: str) -> dict:
    if backend == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", PROGRAM, backend, str(batches), how]
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("backend", ["host", "dali"])
def test_memory_does_not_grow_with_batches(backend: str) -> None:
    early, late = soaked(backend, BATCHES, "end")["sizes"]
    # A short run still fills what is kept between batches.
    allowed = 1.02 if BATCHES >= 20_000 else 1.06
    assert late < allowed * early, f"{early:.0f} MB after {BATCHES // 10} batches, {late:.0f} MB after {BATCHES}"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", ["end", "exception", "interrupt"])
@pytest.mark.parametrize("backend", ["host", "dali"])
def test_no_thread_file_or_shared_memory_is_left(backend: str, how: str) -> None:
    told = soaked(backend, 40, how)
    assert told["after"]["files"] <= told["before"]["files"]
    assert told["after"]["threads"] <= told["before"]["threads"]
    assert told["after"]["shared"] == told["before"]["shared"]
