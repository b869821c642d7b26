"""What the loop tells the outside: log, heartbeat and display by rank 0, the averages by all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from engine.best import EVAL
from engine.boards import check_wandb
from engine.dashboard import Display, show_training
from engine.log import Heartbeat, IntervalMeter, LogRecord, RunLog, allocated_mb, finite_or_none, resident_mb
from engine.utilisation import StepFlops
from engine.world import World
from pipelines.plan import DIGESTS


class Reporter:
    """Reports of one rank; made by `reporting`.

    Args:
        world: ranks to average over.
        meter: speed of the loop.
        sinks: log, heartbeat and display of rank 0; None on the others.
    """

    def __init__(self, world: World, meter: IntervalMeter, sinks: tuple[RunLog, Heartbeat, Display] | None) -> None:
        self._world, self._meter, self._sinks = world, meter, sinks

    def step_done(self, step: int) -> None:
        """Count a step; costs no waiting."""
        self._meter.count()
        if self._sinks:
            _, heartbeat, display = self._sinks
            heartbeat.beat(step)
            display.step_done()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of a block out of the speed of training; what the device still does is waited for before."""
        if self._world.device.type == "cuda":
            torch.cuda.synchronize(self._world.device)
        with self._meter.paused():
            yield

    def alive(self, step: int) -> None:
        """Say that this rank works, between two steps."""
        if self._sinks:
            self._sinks[1].beat(step)

    def log(
        self,
        step: int,
        losses: Mapping[str, Tensor],
        metrics: Mapping[str, Tensor],
        *,
        epoch: int,
        plan_digest: int,
        lr: float,
        grad_norm: Tensor | None,
        skipped: int,
        wait_s: float,
        samples_per_step: int,
        views: int,
        cost: StepFlops,
        evals: Mapping[str, float],
    ) -> dict[str, float]:
        """Write a record of this step; every rank must call it, and each waits for its device here.

        Returns:
            the means over ranks that it holds, as ``loss/NAME`` and ``metric/NAME``, and `evals` as ``eval/NAME``.

        Args:
            step: finished steps.
            losses: of this rank and step.
            metrics: likewise.
            epoch: of the step, from 0.
            plan_digest: of this rank's batch.
            lr: used in the step.
            grad_norm: of all ranks' gradients, ().
            skipped: steps that were left out so far.
            wait_s: seconds that the loader was waited for so far.
            samples_per_step: of all ranks.
            views: clips of a sample.
            cost: of a step of this rank.
            evals: what was measured after this step, the same on all ranks.
        """
        named = {("loss", name): value for name, value in losses.items()}
        named |= {("metric", name): value for name, value in metrics.items()}
        values = self._world.mean(named)
        digest = sum(self._world.gather(plan_digest)) % DIGESTS
        speed = self._meter.read(wait_s, clips_per_step=samples_per_step * views)
        told = {f"{kind}/{name}": value for (kind, name), value in values.items()}
        told |= {f"{EVAL}{name}": value for name, value in evals.items()}
        if not self._sinks:
            return told
        record = LogRecord(
            step=step,
            epoch=epoch,
            plan_digest=f"{digest:016x}",
            losses=finite_or_none({name: value for (kind, name), value in values.items() if kind == "loss"}),
            metrics=finite_or_none({name: value for (kind, name), value in values.items() if kind == "metric"}),
            lr=lr,
            grad_norm=finite_or_none({"norm": float(grad_norm)})["norm"] if grad_norm is not None else None,
            skipped=skipped,
            samples_per_s=speed["clips_per_s"] / views,
            data_wait_share=min(1.0, speed["data_wait_s"] / max(speed["step_s"], 1e-9)),
            memory_mb=allocated_mb(self._world.device),
            host_memory_mb=resident_mb(),
            evals=finite_or_none(evals),
            **cost.rates(speed["step_s"]),
            **speed,
        )
        self._sinks[0].write(record)
        self._sinks[2].show(record)
        return told

    def add_evals(self, step: int, evals: Mapping[str, float]) -> None:
        """Put what was measured after a step into the record that was written of it before."""
        if self._sinks:
            self._sinks[0].add_evals(step, finite_or_none(evals))

    def syncing(self) -> Callable[[], object]:
        """What makes the log of by now durable, for the thread that then writes a checkpoint; a disk may be slow."""
        return self._sinks[0].syncing() if self._sinks else lambda: None

    def end(self, step: int, state: str) -> None:
        """Say in the heartbeat how the run was left."""
        if self._sinks:
            self._sinks[1].beat(step, state=state)


@contextmanager
def reporting(
    run_dir: Path,
    world: World,
    *,
    done: int,
    total: int,
    wait_s: float,
    tensorboard: bool = True,
    wandb_project: str = "",
) -> Iterator[Reporter]:
    """Reports of steps `done` + 1 to `total` into a run folder.

    Raises:
        InputError: on every rank, where Weights & Biases is asked for and not installed.
    """
    check_wandb(wandb_project)
    meter = IntervalMeter(wait_s)
    if not world.is_main:
        yield Reporter(world, meter, None)
        return
    log = RunLog(run_dir, resumed_at=done, tensorboard=tensorboard, wandb_project=wandb_project)
    try:
        with show_training(total, done=done) as display:
            yield Reporter(world, meter, (log, Heartbeat(run_dir), display))
    finally:
        log.close()
