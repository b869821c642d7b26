"""Trains the tiny method as one rank of several, and does to itself on one of them what it is told to.

Arguments: run folder, rank, number of ranks, port, time-outs of the watch and of collectives (s), what happens, and
on which rank.
"""

import ctypes
import logging
import sys
import time
from contextlib import closing
from pathlib import Path

import torch

from data_process.errors import RunError
from engine.watchdog import watching
from engine.world import DistConfig, join
from pipelines.prefetch import Prefetcher
from tests.engine.ranks import environment
from tests.engine.tiny import TinyLoader, TinyMethod, run_tiny

STEP = 5
"""Finished steps when it happens."""


class ThreadedLoader(TinyLoader):
    """Batches that a thread prepares, as the real loader's."""

    def __init__(self, *, on_step, **options):
        super().__init__(**options)
        self._on_step = on_step

    def batches(self, start_step):
        self._running = Prefetcher(self._told(start_step), depth=1)
        for batch, _ in self._running:
            yield batch

    def close(self):
        self._running.stop()

    def _told(self, start_step):
        for step, batch in enumerate(super().batches(start_step), start=start_step):
            self._on_step(step)
            yield batch


class TroubledMethod(TinyMethod):
    def __init__(self, *, on_step):
        super().__init__(norm=False)
        self._on_step = on_step

    def forward(self, batch):
        self._on_step(int(self.calls))
        return super().forward(batch)


def die_as_a_thread(step):
    if step == STEP:
        ctypes.CDLL(None).syscall(60, 0)  # exit of this one thread (x86-64); Python learns nothing of it


def keep_the_lock(step):
    if step == STEP:
        ctypes.PyDLL(None).sleep(1000)


def fail(step):
    if step == STEP:
        raise OSError("a disk went away")


def be_slow(first_s, later_s):
    return lambda step: time.sleep({0: first_s, STEP: later_s}.get(step, 0))


TROUBLES = {  # in the loader's thread, in the forward pass
    "nothing": (lambda step: None, lambda step: time.sleep(0.05)),
    "loader thread dies": (die_as_a_thread, lambda step: None),
    "lock is kept": (lambda step: None, keep_the_lock),
    "error": (lambda step: None, fail),
    "slow": (be_slow(0, 3), be_slow(6, 3)),
}


def main():
    run, rank, world_size, port = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    timeout_s, collective_s, what, where = float(sys.argv[5]), float(sys.argv[6]), sys.argv[7], int(sys.argv[8])
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    torch.set_num_threads(1)
    in_loader, in_forward = TROUBLES[what if rank == where else "nothing"]
    world = join(DistConfig(device="cpu", timeout_s=collective_s), environment(rank, world_size, port))
    loader = ThreadedLoader(on_step=in_loader, rank=rank, world_size=world_size)
    try:
        with watching(timeout_s, first_step_s=20.0) as watchdog, closing(loader):
            steps = 12 if what == "slow" else 2000
            run_tiny(
                run, world=world, loader=loader, method=TroubledMethod(on_step=in_forward), watchdog=watchdog,
                steps=steps, save_every=4,
            )  # fmt: skip
    except RunError as error:
        print(f"intravid: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
