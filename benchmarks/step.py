"""What the training loop costs beside the plainest loop that takes the same steps.

Both train IIC on the same batches, prepared before the clock starts. They take turns step by step: whenever the engine
asks for a batch, the bare loop takes its step first. So a machine that is busy with other things slows both alike; read
the ratios, not the milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmarks.options import add_outputs, positive
from benchmarks.scoreboard import Scoreboard
from data_process.records import VideoRecord
from engine.checkpoint import RunFacts
from engine.optim import OptimConfig
from engine.precision import PrecisionConfig
from engine.schedule import ScheduleConfig
from engine.stop import StopFlag
from engine.trainer import TrainConfig, train
from engine.world import World
from models.backbones.r3d import R3D
from models.method import DatasetFacts, Method
from models.methods.iic import IIC
from models.planners.single_clip import ClipDraw
from pipelines.batch import ViewBatch
from pipelines.plan import sample_rng

NUM_VIDEOS = 400


class LockStep:
    """A loader whose batches are ready, and that times a bare step before each step of the engine.

    Args:
        batches: used over and over.
        bare_step: takes one step of the bare loop on a batch.
        steps_per_epoch: of the data that the batches stand for.

    Attributes:
        bare_ms: duration of each bare step.
        engine_ms: duration of each of the engine's, from batch to the next request.
    """

    wait_s = 0.0

    def __init__(
        self, batches: list[ViewBatch], bare_step: Callable[[ViewBatch], None], *, steps_per_epoch: int
    ) -> None:
        self._batches, self._bare_step, self.steps_per_epoch = batches, bare_step, steps_per_epoch
        self.bare_ms: list[float] = []
        self.engine_ms: list[float] = []

    def batches(self, start_step: int) -> Iterator[ViewBatch]:
        """The prepared batches, each used by the bare loop first."""
        for step in count(start_step):
            batch = self._batches[step % len(self._batches)]
            begin = time.perf_counter()
            self._bare_step(batch)
            self.bare_ms.append(1e3 * (time.perf_counter() - begin))
            begin = time.perf_counter()
            yield batch
            self.engine_ms.append(1e3 * (time.perf_counter() - begin))


def make_method(given: argparse.Namespace) -> Method:
    """IIC as in the motion set's recipe."""
    torch.manual_seed(0)
    clip = ClipDraw(num_frames=given.frames, size=given.size)
    facts = DatasetFacts(NUM_VIDEOS)
    return IIC(facts, R3D(width=given.width), clip=clip, num_negatives=512, normalize_features=True)


def make_batches(method: Method, given: argparse.Namespace, num_batches: int = 4) -> list[ViewBatch]:
    """Random pixels with the targets that the method's planner draws."""
    planner, shape = method.planner(), method.clip_format
    record = VideoRecord("bench/video", 0, "train", "jpeg", 64, 25.0, 64, 64)
    generator, made = torch.Generator().manual_seed(0), []
    for number in range(num_batches):
        index = [(number * given.batch + place) % NUM_VIDEOS for place in range(given.batch)]
        targets = [planner(sample_rng(0, 0, sample), record).targets for sample in index]
        size = (given.batch, 3, shape.num_frames, shape.size, shape.size)
        clips = torch.rand(size, generator=generator).contiguous(memory_format=torch.channels_last_3d)
        stacked = {name: torch.stack([torch.from_numpy(row[name]) for row in targets]) for name in targets[0]}
        made.append(ViewBatch((clips,), torch.tensor(index), stacked))
    return made


def bare_loop(method: Method, *, channels_last: bool) -> Callable[[ViewBatch], None]:
    """Forward, backward, step, banks: nothing is logged, checked or saved."""
    method.train()
    if channels_last:
        for parameter in method.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=1e-4)

    def step(batch: ViewBatch) -> None:
        loss: Any = sum(method(batch).losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step()

    return step


def measure(given: argparse.Namespace) -> LockStep:
    """Run `engine.trainer.train` with its log, heartbeat, stop flag and checkpoints beside the bare loop."""
    bare = make_method(given)
    batches = make_batches(bare, given)
    loader = LockStep(
        batches,
        bare_loop(bare, channels_last=given.channels_last),
        steps_per_epoch=NUM_VIDEOS // given.batch,
    )
    config = TrainConfig(
        steps=given.steps + 1,  # the last one is never timed: nothing is asked for after it
        global_batch=given.batch,
        seed=0,
        log_every=given.log_every,
        save_every=given.save_every,
        channels_last=given.channels_last,
        tensorboard=False,
    )
    world = World()
    with tempfile.TemporaryDirectory() as folder:
        train(
            make_method(given),
            loader,
            config=config,
            optim=OptimConfig("adamw", lr=1e-3),
            schedule=ScheduleConfig(),
            precision=PrecisionConfig(),
            run_dir=Path(folder),
            world=world,
            stop=StopFlag(world),
            facts=RunFacts(0, given.batch, "benchmark"),
        )
    return loader


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    given = _parse(arguments)
    loader = measure(given)
    kinds: dict[str, list[tuple[float, float]]] = {"plain": [], "with a record": [], "with a checkpoint": []}
    for step, pair in enumerate(zip(loader.bare_ms, loader.engine_ms, strict=False), start=1):
        if step > given.warmup:
            kind = "plain" if step % given.log_every else "with a record"
            kinds[kind if step % given.save_every else "with a checkpoint"].append(pair)
    rows: dict[str, tuple[float | None, ...]] = {}
    for kind, pairs in kinds.items():
        if pairs:
            bare, engine = (statistics.median(times) for times in zip(*pairs, strict=True))
            rows[kind] = (len(pairs), bare, engine, statistics.median(engine / bare for bare, engine in pairs))
    setting = f"IIC, batch {given.batch}, clips of {given.frames} x {given.size} x {given.size}, medians of pairs"
    columns = ("steps", "bare, ms", "engine, ms", "engine / bare")
    Scoreboard("step", setting, columns, rows).publish(given.json)
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="intravid bench step",
        description=__doc__,
        epilog="example:\n  intravid bench step --steps 200\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=200, help="steps of each loop, warm-up included (200)")
    parser.add_argument("--warmup", type=int, default=20, help="first steps that are not counted (20)")
    parser.add_argument("--batch", type=positive, default=16, help="samples a step (16)")
    parser.add_argument("--width", type=positive, default=16, help="of R3D (16)")
    parser.add_argument("--frames", type=positive, default=8, help="of a clip (8)")
    parser.add_argument("--size", type=positive, default=32, help="of a clip, pixels (32)")
    parser.add_argument("--log-every", type=positive, default=10, help="steps between records of the engine (10)")
    parser.add_argument("--save-every", type=positive, default=25, help="steps between checkpoints of the engine (25)")
    parser.add_argument(
        "--channels-last", action=argparse.BooleanOptionalAction, default=True, help="memory layout of both loops"
    )
    parser.add_argument("--threads", type=positive, default=2, help="of torch (2)")
    add_outputs(parser)
    given = parser.parse_args(arguments)
    if given.steps <= given.warmup:
        parser.error(f"--steps ({given.steps}) must exceed --warmup ({given.warmup})")
    torch.set_num_threads(given.threads)
    return given
