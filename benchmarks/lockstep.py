"""The engine's loop and the plainest loop over the same network, step by step in turns.

Whenever the engine asks for a batch, the bare loop takes its step first. So a machine that is busy with other things
slows both alike; read the ratios, not the milliseconds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ceilings import wait_for
from data_process.records import VideoRecord
from engine.checkpoint import RunFacts
from engine.optim import OptimConfig
from engine.precision import Precision, PrecisionConfig
from engine.schedule import ScheduleConfig
from engine.session import use_channels_last
from engine.stop import StopFlag
from engine.trainer import TrainConfig, train
from engine.watchdog import watching
from engine.world import World
from models.backbone import Backbone
from models.cost import kept_for_backward
from models.method import DatasetFacts, Method
from models.methods.iic import IIC
from models.planners.single_clip import ClipDraw
from pipelines.batch import ViewBatch
from pipelines.plan import sample_rng

NUM_VIDEOS = 400
_LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Steps:
    """What both loops do.

    Attributes:
        batch: clips a step.
        frames: of a clip.
        size: of a clip, pixels.
        steps: of each loop that are timed, warm-up included.
        log_every: steps between records of the engine.
        save_every: steps between its checkpoints.
        channels_last: memory layout of the weights.
        bf16: compute in bfloat16 where autocast does, else in float32.
        device: where.
    """

    batch: int
    frames: int
    size: int
    steps: int
    log_every: int
    save_every: int
    channels_last: bool
    bf16: bool
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return torch.bfloat16 if self.bf16 else torch.float32

    @property
    def formats(self) -> PrecisionConfig:
        """The same as a setting of the engine."""
        return PrecisionConfig("bf16" if self.bf16 else "fp32")


class LockStep:
    """A loader whose batches are ready, and that times a bare step before each step of the engine.

    Args:
        batches: used over and over.
        bare_step: takes one step of the bare loop on a batch.
        device: waited for at the end of every step.

    Attributes:
        bare_s: seconds of each bare step.
        engine_s: of each of the engine's, from batch to the next request.
    """

    wait_s = 0.0

    def __init__(
        self, batches: list[ViewBatch], bare_step: Callable[[ViewBatch], None], *, device: torch.device
    ) -> None:
        self._batches, self._bare_step, self._device = batches, bare_step, device
        self.steps_per_epoch = NUM_VIDEOS // len(batches[0])
        self.bare_s: list[float] = []
        self.engine_s: list[float] = []

    def batches(self, start_step: int) -> Iterator[ViewBatch]:
        """The prepared batches, each used by the bare loop first."""
        for step in count(start_step):
            batch = self._batches[step % len(self._batches)]
            begin = time.perf_counter()
            self._bare_step(batch)
            wait_for(self._device)
            self.bare_s.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            yield batch
            wait_for(self._device)
            self.engine_s.append(time.perf_counter() - begin)


def make_method(make: Callable[[], Backbone], do: Steps) -> Method:
    """IIC with one forward pass a step: its second view is the first, and it has no intra-negative."""
    torch.manual_seed(0)
    method = IIC(
        DatasetFacts(NUM_VIDEOS),
        make(),
        clip=ClipDraw(num_frames=do.frames, size=do.size),
        second_view="rgb",
        intra_negative="none",
        num_negatives=16,
        normalize_features=True,
    )
    return method.to(do.device)


def make_batches(method: Method, do: Steps, num_batches: int = 4) -> list[ViewBatch]:
    """Random pixels on the device, with the targets that the method's planner draws."""
    planner, shape = method.planner(), method.clip_format
    record = VideoRecord("bench/video", 0, "train", "jpeg", 64, 25.0, 64, 64)
    generator, made = torch.Generator().manual_seed(0), []
    for number in range(num_batches):
        index = [(number * do.batch + place) % NUM_VIDEOS for place in range(do.batch)]
        targets = [planner(sample_rng(0, 0, sample), record).targets for sample in index]
        size = (do.batch, 3, shape.num_frames, shape.size, shape.size)
        clips = torch.rand(size, generator=generator).contiguous(memory_format=torch.channels_last_3d)
        stacked = {name: torch.stack([torch.from_numpy(row[name]) for row in targets]) for name in targets[0]}
        made.append(ViewBatch((clips,), torch.tensor(index), stacked).to(do.device))
    return made


def bare_loop(method: Method, do: Steps, *, compiled: bool) -> Callable[[ViewBatch], None]:
    """Forward, backward, step, banks: nothing is logged, checked or saved."""
    method.train()
    if do.channels_last:
        use_channels_last(method)
    called: Any = torch.compile(method) if compiled else method
    formats = Precision(do.formats, do.device)
    fused = do.device.type == "cuda"  # as the engine's
    optimizer = torch.optim.AdamW(method.parameters(), lr=_LEARNING_RATE, weight_decay=1e-4, fused=fused)

    def step(batch: ViewBatch) -> None:
        with formats.autocast():
            loss: Any = sum(called(batch).losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step()

    return step


@dataclass(frozen=True)
class StepCost:
    """What one step asks of the device.

    Attributes:
        flops: of convolutions and products, forward and backward.
        moved_bytes: the least that passes through memory: activations that are kept for the backward pass are written
            and read, weights are read twice and their gradients written.
    """

    flops: int
    moved_bytes: int


def step_cost(method: Method, batch: ViewBatch, do: Steps) -> StepCost:
    """Counted in a step that is taken, without changing a weight."""
    formats = Precision(do.formats, do.device)
    with FlopCounterMode(display=False) as flops, kept_for_backward(method, *batch.clips) as kept:
        with formats.autocast():
            loss: Any = sum(method(batch).losses.values())
        loss.backward()
    method.zero_grad()
    weights = sum(parameter.nbytes for parameter in method.parameters())
    return StepCost(flops.get_total_flops(), 2 * kept.num_bytes + 3 * weights)


def peak_bytes(step: Callable[[ViewBatch], None], batch: ViewBatch, device: torch.device) -> int | None:
    """Most device memory in use during a step; None on the CPU, where torch does not count."""
    step(batch)  # the optimizer's state is there from the second step on
    if device.type != "cuda":
        return None
    wait_for(device)
    torch.cuda.reset_peak_memory_stats(device)
    step(batch)
    wait_for(device)
    return torch.cuda.max_memory_allocated(device)


def train_beside(method: Method, loader: LockStep, do: Steps, *, compiled: bool) -> None:
    """Run `engine.trainer.train` with its log, watchdog, stop flag and checkpoints on the loader's batches."""
    config = TrainConfig(
        steps=do.steps + 1,  # the last one is never timed: nothing is asked for after it
        global_batch=do.batch,
        seed=0,
        log_every=do.log_every,
        save_every=do.save_every,
        channels_last=do.channels_last,
        compile=compiled,
        tensorboard=False,
    )
    world = World(device=do.device)
    limits = config.hang_timeout_s, config.first_step_timeout_s
    with tempfile.TemporaryDirectory() as folder, watching(*limits) as watchdog:
        train(
            method,
            loader,
            config=config,
            optim=OptimConfig("adamw", lr=_LEARNING_RATE),
            schedule=ScheduleConfig(),
            precision=do.formats,
            run_dir=Path(folder),
            world=world,
            stop=StopFlag(world),
            facts=RunFacts(0, do.batch, "benchmark"),
            watchdog=watchdog,
        )
