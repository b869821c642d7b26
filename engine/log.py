"""What a run tells while it runs: log.jsonl, boards of curves, heartbeat.json; all by rank 0."""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from data_process.errors import RunError
from engine.atomic import replacing
from engine.boards import open_boards

EXACT_KEYS = ("step", "epoch", "plan_digest", "losses", "metrics", "evals", "lr", "grad_norm", "skipped")
"""Keys of a record that a killed and resumed run repeats bit for bit (CPU, equal world size); the rest are times."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogRecord:
    """One line of log.jsonl.

    Losses and metrics are those of this one step, averaged over ranks, not over the interval: so an interval that a
    stop has cut in two leaves no trace.

    Attributes:
        step: finished steps.
        epoch: of that step, from 0.
        plan_digest: of everything that decided the clips of that step's global batch, 16 hexadecimal digits; the same
            for any number of ranks. Zeros where the loader tells none.
        losses: name to weighted value, ``total`` is their sum; None where it is not a finite number.
        metrics: name to value; None where it is not a finite number.
        lr: used in that step.
        grad_norm: of that step's gradients of all parameters together, before they are clipped; None where it is not a
            finite number.
        skipped: steps so far that were left out because their loss or gradient was not finite.
        samples_per_s: samples of all ranks over the interval since the last record.
        clips_per_s: clips (samples times views) likewise.
        step_s: seconds per step over the interval.
        data_wait_s: seconds per step of it in which this rank waited for the loader.
        data_wait_share: the same as a share of the step, 0 to 1.
        memory_mb: largest memory allocated on the GPU so far (MiB); None on the CPU.
        host_memory_mb: largest resident memory of this rank's process so far (MiB).
        flops_per_s: operations a second of this rank over the interval, see `engine.utilisation.StepFlops`; None where
            they cannot be counted (compiled).
        mfu: the same as a share of what the device can do in this precision; None where that is not known.
        evals: name to value of what the run has measured of itself after this step, None where it is not a finite
            number; empty after most steps.
    """

    step: int
    epoch: int
    plan_digest: str
    losses: Mapping[str, float | None]
    metrics: Mapping[str, float | None]
    lr: float
    grad_norm: float | None
    skipped: int
    samples_per_s: float
    clips_per_s: float
    step_s: float
    data_wait_s: float
    data_wait_share: float
    memory_mb: float | None
    host_memory_mb: float
    flops_per_s: float | None
    mfu: float | None
    evals: Mapping[str, float | None] = field(default_factory=dict)


class RunLog:
    """Appends records to log.jsonl, and to TensorBoard and Weights & Biases where they are wanted.

    Args:
        run_dir: folder of the run, made if needed.
        resumed_at: finished steps of the checkpoint that the run goes on from; later records are dropped, since
            those steps come again.
        tensorboard: write ``tensorboard/`` too, if the package is there.
        wandb_project: of Weights & Biases that it goes to as well; empty for none.

    Raises:
        RunError: if the log cannot be written.
    """

    def __init__(
        self, run_dir: Path, *, resumed_at: int = 0, tensorboard: bool = True, wandb_project: str = ""
    ) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self._path = run_dir / "log.jsonl"
        truncate_log(self._path, resumed_at)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - lives as long as the run
        self._boards = open_boards(run_dir, resumed_at=resumed_at, tensorboard=tensorboard, wandb_project=wandb_project)

    def write(self, record: LogRecord) -> None:
        """Append one record; it survives a killed process at once, a power loss after `syncing`."""
        try:
            self._file.write(json.dumps(asdict(record), allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error.strerror}; make room, then start again") from error
        for board in self._boards:
            board.add(_scalars(record), record.step)

    def add_evals(self, step: int, evals: Mapping[str, float | None]) -> None:
        """Put what was measured after a step into its record, which was written before; none is made where it is not.

        Raises:
            RunError: if the log cannot be written.
        """
        records = read_log(self._path)
        for record in records:
            if record["step"] == step:
                record["evals"] = dict(evals)
        self._file.close()
        with replacing(self._path) as file:
            file.write("".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode())
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - as before
        for board in self._boards:
            board.add({f"eval/{name}": value for name, value in evals.items() if value is not None}, step)

    def syncing(self) -> Callable[[], None]:
        """What makes durable the records that are written by now, in another thread and after `close` too.

        Called before a checkpoint is written, so that the log never lags behind it.
        """
        descriptor = os.dup(self._file.fileno())

        def sync() -> None:
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        return sync

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        for board in self._boards:
            board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """All whole records of a log.jsonl; half a line at its end (a killed process) is left out."""
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            _LOG.warning("%s line %d is not a whole record and is left out", path, number)
    return records


def truncate_log(path: Path, step: int) -> None:
    """Drop records of later steps than `step`, atomically; nothing happens where there is none."""
    if not path.exists():
        return
    text = path.read_bytes()
    kept = [record for record in read_log(path) if record["step"] <= step]
    wanted = "".join(json.dumps(record) + "\n" for record in kept).encode()
    if wanted != text:
        with replacing(path) as file:
            file.write(wanted)


class Heartbeat:
    """Writes heartbeat.json (step, time, state), so that a watchdog outside can tell a hang from work.

    Args:
        run_dir: folder of the run.
        every_s: least time between two writings.
    """

    def __init__(self, run_dir: Path, *, every_s: float = 10.0) -> None:
        self._path, self._every_s, self._last = run_dir / "heartbeat.json", every_s, -math.inf

    def beat(self, step: int, *, state: str = "running") -> None:
        """Say that `step` steps are finished; a state other than ``running`` is written whatever the time."""
        now = time.monotonic()
        if state == "running" and now - self._last < self._every_s:
            return
        self._last = now
        beat = {"step": step, "state": state, "time": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
        with replacing(self._path, durable=False) as file:
            file.write(json.dumps(beat).encode())


class IntervalMeter:
    """Speed since the last reading.

    Args:
        wait_s: seconds that the loader had been waited for when the measuring began.
    """

    def __init__(self, wait_s: float) -> None:
        self._start, self._wait_s, self._steps = time.perf_counter(), wait_s, 0

    def count(self) -> None:
        """Count a finished step."""
        self._steps += 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time of a block."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - begin

    def read(self, wait_s: float, *, clips_per_step: int) -> dict[str, float]:
        """Speed fields of a `LogRecord` over the interval; starts the next one."""
        now = time.perf_counter()
        step_s = (now - self._start) / max(1, self._steps)
        waited = (wait_s - self._wait_s) / max(1, self._steps)
        self._start, self._wait_s, self._steps = now, wait_s, 0
        return {"clips_per_s": clips_per_step / max(step_s, 1e-9), "step_s": step_s, "data_wait_s": waited}


def finite_or_none(values: Mapping[str, float]) -> dict[str, float | None]:
    """The same numbers with None for NaN and infinity, which JSON does not know."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def allocated_mb(device: torch.device) -> float | None:
    """Largest memory allocated on a GPU so far, MiB; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None


def resident_mb() -> float:
    """Largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux tells KiB


def _scalars(record: LogRecord) -> dict[str, float]:
    groups = {"loss": record.losses, "metric": record.metrics, "eval": record.evals}
    named = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
    single = asdict(record).keys() - {"step", "plan_digest", "losses", "metrics", "evals"}
    named |= {f"run/{name}": getattr(record, name) for name in single}
    return {name: value for name, value in named.items() if value is not None}
