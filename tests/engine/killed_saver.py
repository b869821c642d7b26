"""Forks processes that save without end, kills each at a random moment, prints what was found after each.

Arguments: folder, number of kills, and `background` for checkpoints that a thread writes.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from engine.background_save import BackgroundSaver
from engine.checkpoint import RunFacts, RunState, resume_state, save_checkpoint
from engine.world import World


def save_for_ever(folder, step, background):
    saver = BackgroundSaver(folder, keep=2, keep_every=0)
    weights = torch.zeros(200_000)
    while True:
        step += 1
        weights.fill_(step)
        state = RunState(RunFacts(1, 2, "digest"), step, 1, {"weight": weights})
        if background:
            saver.save(state)  # and the next step is at work on the weights while they are written
        else:
            save_checkpoint(folder, state, keep=2)


def main():
    folder, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0)
    background = sys.argv[3:] == ["background"]
    step = 0
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            save_for_ever(folder, step, background)
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
