"""Runs of a recipe that are killed (SIGKILL) at random moments again and again, until they are finished.

    python -m tests.launch.killed_runs RECIPE... --kills 20

Each start draws its moment: at a stage of one of the next steps, between the operations by which files are replaced, in
the middle of the bytes of a checkpoint, or in the loader's thread. What the run leaves is compared bit by bit with that
of a run that nothing has disturbed. Exit status 1 where they differ.
"""

import argparse
import collections
import io
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

from engine.beats import Stage
from engine.checkpoint import saved_in
from engine.watchdog import Watchdog
from launch.config import load_run
from launch.pretrain import pretrain
from pipelines.source import ClipSource
from tests.launch.recipes import reduced
from tests.launch.runs import assert_same_run
from tests.sample_videos import small_dataset

SETTINGS = {"save_every": 2, "keep": 2, "ema": 0.9, "keep_best": "loss/total", "hang_timeout_s": 60}


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


EVALUATION = (Stage.EVALUATE, Stage.COMPARE)
TRAINING = [stage for stage in Stage if stage not in (*EVALUATION, Stage.CLOSE)]


def at_a_stage(rng, step, stages=TRAINING):
    """At a stage of one of the next three steps."""
    stage, original = rng.choice(stages), Watchdog.at
    # The stages up to saving follow a finished step; every second one is saved.
    when = step + (2 if stage is Stage.SAVE else rng.randint(int(stage < Stage.SAVE), 2))

    def at(self, now, finished=None):
        original(self, now, finished)
        if self._at[0] >= when and now is stage:
            die()

    Watchdog.at = at


def in_an_evaluation(rng, step):
    """At the next batch that is evaluated, or behind the last."""
    at_a_stage(rng, step, EVALUATION)


def between_operations(rng, step):
    """At one of the next calls by which files become durable or are replaced."""
    left = [rng.randint(1, 12)]

    def counted(original):
        def call(*given, **named):
            left[0] -= 1
            if left[0] == 0:
                die()
            return original(*given, **named)

        return call

    os.fsync, os.replace = counted(os.fsync), counted(os.replace)


def in_a_checkpoint(rng, step):
    """When a part of a checkpoint's bytes is written."""
    share, original = rng.random(), torch.save

    def save(content, file):
        whole = io.BytesIO()
        original(content, whole)
        file.write(whole.getbuffer()[: int(share * len(whole.getbuffer()))])
        file.flush()
        die()

    torch.save = save


def in_the_loader(rng, step):
    """In the thread that plans and reads one of the next steps, which runs ahead of training."""
    when, pause, original = step + rng.randint(0, 4), 0.02 * rng.random(), ClipSource.__call__

    def call(self, wanted, *given):
        if wanted == when:
            time.sleep(pause)
            die()
        return original(self, wanted, *given)

    ClipSource.__call__ = call


MOMENTS = (at_a_stage, between_operations, in_a_checkpoint, in_the_loader)


def child(recipe, moment, rng, step, said):
    """A process that trains and perhaps is killed: whether it was; what it says goes to a file."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with open(said, "ab") as file:
                os.dup2(file.fileno(), 2)
            if moment is not None:
                moment(rng, step)
            status = pretrain(load_run(recipe))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"a run ended with status {os.WEXITSTATUS(status)}:\n{Path(said).read_text()[-3000:]}")
    return os.WIFSIGNALED(status)


def survive(recipe, folder, *, shards, kills, seed=0, flow=""):
    """How often the run was killed at each kind of moment; fails where it does not end as the unbroken one."""
    rng, counts, steps = random.Random(f"{recipe}{seed}"), collections.Counter(), 4 * kills + 4
    moments = MOMENTS if load_run(recipe).config.validate.source == "none" else (*MOMENTS, in_an_evaluation)
    whole, cut = (reduced(recipe, run=folder / name, shards=shards, flow=flow, steps=steps, **SETTINGS)
                  for name in ("whole", "cut"))  # fmt: skip
    child(whole, None, rng, 0, folder / "whole.txt")
    while sum(counts.values()) < kills:
        saved = saved_in(folder / "cut" / "checkpoints")
        moment = moments[rng.randrange(len(moments))]
        if not child(cut, moment, rng, int(saved[0].stem[5:]) if saved else 0, folder / "cut.txt"):
            break
        counts[moment.__name__] += 1
    child(cut, None, rng, 0, folder / "cut.txt")
    assert_same_run(folder / "whole", folder / "cut", steps=steps)
    left = [path.name for path in (folder / "cut").rglob("*") if ".tmp." in path.name or "damaged" in path.name]
    assert not left, left
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        small_dataset(shards, videos=24)
        for recipe in given.recipes:
            begin = time.monotonic()
            try:
                counts = survive(recipe, Path(folder) / recipe.stem, shards=shards, kills=given.kills, seed=given.seed)
                told = f"{sum(counts.values())} kills, bitwise the unbroken run; {dict(sorted(counts.items()))}"
            except (AssertionError, RuntimeError) as error:
                told, failed = f"FAILED: {error}", 1
            print(f"{recipe.stem}: {told} ({time.monotonic() - begin:.0f} s)", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
