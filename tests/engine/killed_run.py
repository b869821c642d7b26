"""Trains in a forked process that is killed at random steps again and again, until the run is finished.

Prints the steps at which it was killed.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from engine.log import read_log
from tests.engine.tiny import run_tiny


def main():
    run, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    torch.set_num_threads(1)
    for kill in range(kills + 1):
        child = os.fork()
        if child == 0:
            run_tiny(run, pause_s=0.01, log_every=1)
            os._exit(0)
        if kill < kills:
            wait_for_step(run, rng.randint(4 * kill + 2, 4 * kill + 6))
            time.sleep(rng.random() * 0.01)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(read_log(run / "log.jsonl")[-1]["step"], os.WIFSIGNALED(status))


def wait_for_step(run, step):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        log = run / "log.jsonl"
        if log.exists() and len(log.read_text().splitlines()) >= step:
            return
        time.sleep(0.002)
    raise TimeoutError(f"step {step} was not reached")


if __name__ == "__main__":
    main()
