"""Where the time of a step goes: some steps are timed stage by stage, a few more are traced, then the run pauses.

The clock follows what the loop tells its watchdog. While steps are timed the device is waited for at every border
between stages, so that each second is counted where it is spent; without that wait stages overlap and a step is
shorter. Tracing slows a step down, so the traced steps are not the timed ones.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from data_process.errors import InputError
from engine.atomic import replacing
from engine.beats import Stage
from engine.world import World

_LOG = logging.getLogger(__name__)
WARM_UP, TRACED = 10, 3
"""Steps before those that are timed (caches, the first allocations, cuDNN's search), and after them."""

FOLDER = "profile"
_NAMES = {
    Stage.DATA: "data wait",
    Stage.FORWARD: "forward",
    Stage.BACKWARD: "backward",
    Stage.OPTIMIZER: "optimizer",
    Stage.AGREE: "logging",
    Stage.EVALUATE: "evaluation",
    Stage.COMPARE: "evaluation",
    Stage.LOG: "logging",
    Stage.SAVE: "logging",
    Stage.CLOSE: "logging",
}
"""Names of what a step's time is shared among; logging takes agreeing on a stop and saving along."""

_REMEDIES = {
    "data wait": "more pipeline.threads or pipeline.prefetch, smaller stored frames, or data.stage on a local disk; "
    "`intravid bench loader` tells what the machine gives",
    "forward": "precision.dtype bf16, train.compile, a larger batch a rank where the device is not full, or a smaller "
    "clip.size; the trace tells which operations",
    "backward": "precision.dtype bf16, train.compile, or train.recompute off; with several ranks it holds the exchange "
    "of gradients and the wait for the slowest rank; the trace tells which operations",
    "optimizer": "optim.fused torch or apex, or a larger batch a step",
    "logging": "larger train.log_every and train.save_every, and train.save_in_background",
    "evaluation": "larger validate.every_epochs or online.every_epochs, or fewer clips and videos there",
}


class Follower(Protocol):
    """What the loop tells where it is; `engine.watchdog.Watchdog` is one."""

    def at(self, stage: Stage, step: int | None = None) -> None:
        """Say what this rank is about from now on."""


@dataclass(frozen=True)
class Profile:
    """What is asked for.

    Attributes:
        steps: that are timed.
    """

    steps: int = 20

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"--profile-steps {self.steps} times nothing; it must be at least 1")

    @property
    def num_steps(self) -> int:
        """All steps that it takes."""
        return WARM_UP + self.steps + TRACED

    def limit(self, steps: range) -> range:
        """The steps of the run that are done under this profile.

        Raises:
            InputError: where the run has too few left.
        """
        if len(steps) < self.num_steps:
            raise InputError(
                f"a profile takes {self.num_steps} steps ({WARM_UP} to warm up, {self.steps} timed, {TRACED} traced), "
                f"and {len(steps)} of the run are left; lower --profile-steps, or profile another run_dir"
            )
        return steps[: self.num_steps]


class StageClock:
    """Passes on what the loop tells, and counts the time between.

    Args:
        follower: who is told, too.
        profile: which steps are timed.
        now: seconds; waits for the device first where there is one.
        trace: starts and stops tracing, or None for a rank that does not.
    """

    def __init__(
        self, follower: Follower, profile: Profile, *, now: Callable[[], float], trace: Trace | None = None
    ) -> None:
        self._follower, self._profile, self._now, self._trace = follower, profile, now, trace
        self._done, self._stage, self._since = 0, Stage.DATA, 0.0
        self._timing = False
        self.seconds = dict.fromkeys(_NAMES.values(), 0.0)

    def at(self, stage: Stage, step: int | None = None) -> None:
        """As `Watchdog.at`; a new step begins with `Stage.DATA`."""
        self._follower.at(stage, step)
        if self._timing:
            now = self._now()
            self.seconds[_NAMES[self._stage]] += now - self._since
            self._since = now
        self._stage = stage
        if stage is Stage.AGREE:
            self._done += 1
        if stage is Stage.DATA:
            self._begin_step()
        if self._trace:
            self._trace.stage(_NAMES[stage])

    def _begin_step(self) -> None:
        if self._done == WARM_UP:
            self._timing, self._since = True, self._now()
        elif self._done == WARM_UP + self._profile.steps:
            self._timing = False
            if self._trace:
                self._trace.start()


class Trace:
    """torch.profiler over the last steps, with the stages in it.

    Args:
        device: what is traced beside the CPU.
        path: of the trace, .json.gz.
    """

    def __init__(self, device: torch.device, path: Path) -> None:
        kinds = torch.profiler.ProfilerActivity
        activities = [kinds.CPU, *([kinds.CUDA] if device.type == "cuda" else [])]
        self._profiler = torch.profiler.profile(activities=activities)
        self._path, self._running = path, False
        self._stage: Any = None
        self._name = ""

    def start(self) -> None:
        """Begin to trace."""
        self._profiler.start()
        self._running = True

    def stage(self, name: str) -> None:
        """Mark that a stage begins, where it is not the one that goes on."""
        if self._running and name != self._name:
            self._leave_stage()
            self._name, self._stage = name, torch.profiler.record_function(f"stage: {name}")
            self._stage.__enter__()

    def stop(self) -> bool:
        """End it, where it was begun; whether it was."""
        if not self._running:
            return False
        self._leave_stage()
        self._profiler.stop()
        self._running = False
        return True

    def write(self) -> None:
        """Put it into its file, which chrome://tracing and ui.perfetto.dev open."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._profiler.export_chrome_trace(str(self._path))

    def _leave_stage(self) -> None:
        if self._stage is not None:
            self._stage.__exit__(None, None, None)
            self._stage = None


@contextmanager
def profiling(profile: Profile | None, follower: Follower, run_dir: Path, world: World) -> Iterator[Follower]:
    """Whom the loop tells where it is: the follower itself, or a clock that ends with a verdict in the log.

    Called by every rank. Rank 0 writes ``profile/stages.json`` and ``profile/trace.json.gz`` into the run folder;
    nothing is written where the loop ended earlier.
    """
    if profile is None:
        yield follower
        return
    trace = Trace(world.device, run_dir / FOLDER / "trace.json.gz") if world.is_main else None
    clock = StageClock(follower, profile, now=lambda: _now(world.device), trace=trace)
    finished = False
    try:
        yield clock
        finished = True
    finally:
        traced = trace.stop() if trace else False
    of_ranks = world.gather({name: total / profile.steps for name, total in clock.seconds.items()})
    if not (finished and traced and trace):
        return
    trace.write()
    with replacing(run_dir / FOLDER / "stages.json") as file:
        told = {"steps": profile.steps, "seconds_per_step": of_ranks}
        file.write(json.dumps(told, indent=1).encode())
    _LOG.info("%s\ntrace of %d steps: %s", verdict(of_ranks), TRACED, run_dir / FOLDER / "trace.json.gz")


def verdict(of_ranks: list[dict[str, float]]) -> str:
    """The limiting stage, the shares of all, and what may help, for people.

    Args:
        of_ranks: for each rank the seconds a step by stage.
    """
    mean = {name: sum(one[name] for one in of_ranks) / len(of_ranks) for name in of_ranks[0]}
    step_s = max(sum(mean.values()), 1e-12)
    limiting = max(mean, key=lambda name: mean[name])
    rows = [f"  {name:<10} {1000 * value:8.2f} ms  {value / step_s:6.1%}" for name, value in mean.items()]
    lines = [f"{limiting} limits this run: {mean[limiting] / step_s:.0%} of a step of {1000 * step_s:.1f} ms", *rows]
    if len(of_ranks) > 1:
        lines[0] += f", means of {len(of_ranks)} ranks"
        waits = [_share(one, "data wait") for one in of_ranks]
        worst = max(range(len(waits)), key=waits.__getitem__)
        lines.append(f"rank {worst} waits most for data, {waits[worst]:.1%}; in others that shows as backward")
    return "\n".join([*lines, f"may help: {_REMEDIES[limiting]}"])


def _share(seconds: Mapping[str, float], name: str) -> float:
    return seconds[name] / max(sum(seconds.values()), 1e-12)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
