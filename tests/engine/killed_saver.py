"""Forks processes that save without end, kills each at a random moment, prints what was found after each."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from engine.checkpoint import RunFacts, RunState, resume_state, save_checkpoint
from engine.world import World


def save_for_ever(folder, step):
    while True:
        step += 1
        weights = {"weight": torch.full((200_000,), float(step))}
        save_checkpoint(folder, RunState(RunFacts(1, 2, "digest"), step, 1, weights), keep=2)


def main():
    folder, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0)
    step = 0
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            save_for_ever(folder, step)
        time.sleep(0.05 + rng.random() * 0.1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        leftovers = len(list(folder.glob("*.tmp.*")))
        state = resume_state(folder, World())
        step = state.step if state else 0
        whole = state is None or bool((state.method["weight"] == step).all())
        print(step, whole, leftovers, len(list(folder.glob("*.damaged"))), len(list(folder.glob("*.tmp.*"))))


if __name__ == "__main__":
    main()
