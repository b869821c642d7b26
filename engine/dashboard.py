"""What a run shows while it trains: a dashboard on a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from data_process.progress import Progress, show_progress
from engine.log import LogRecord

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_LABEL, _UNIT = "training", "steps"
_MOST_ROWS = 12
_REFRESHES_A_SECOND = 1
"""Each costs about 6 ms (measured) in a thread that the loop shares its interpreter with."""


class Display(Protocol):
    """What the loop's reporter tells."""

    def step_done(self) -> None:
        """Count a step."""

    def show(self, record: LogRecord) -> None:
        """Show the numbers of a record."""


@contextmanager
def show_training(total: int, *, done: int = 0) -> Iterator[Display]:
    """A display of steps `done` + 1 to `total`: `Dashboard` where standard error is a terminal, else lines."""
    if not sys.stderr.isatty():
        with show_progress(_LABEL, total, unit=_UNIT, done=done) as progress:
            yield _Lines(progress)
        return
    from rich.console import Console

    with Dashboard(total, done=done, console=Console(stderr=True)).running() as dashboard:
        yield dashboard


def waiting_share(record: LogRecord) -> float:
    """Share of a step in which this rank waited for the loader."""
    return record.data_wait_s / max(record.step_s, 1e-9)


class _Lines:
    def __init__(self, progress: Progress) -> None:
        self._progress, self._facts = progress, {}

    def step_done(self) -> None:
        self._progress.advance(1, **self._facts)

    def show(self, record: LogRecord) -> None:
        self._facts = {
            "loss": record.losses["total"],
            "clips/s": record.clips_per_s,
            "waiting": f"{waiting_share(record):.0%}",
        }
        self._progress.advance(0, **self._facts)


class Dashboard:
    """Steps, time left, and the last record's losses, metrics and speed, drawn by a thread of its own.

    Args:
        total: steps of the run.
        done: steps that were finished before this start.
        console: where it is drawn.
    """

    def __init__(self, total: int, *, done: int, console: Console) -> None:
        from rich import progress
        from rich.live import Live

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[speed]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            auto_refresh=False,
        )
        self._task = self._bar.add_task(_LABEL, total=total, completed=done, speed="")
        self._before: Mapping[str, float | None] = {}
        self._evals: Mapping[str, str] = {}  # of the last record that had any
        self._live = Live(
            self._bar,
            console=console,
            refresh_per_second=_REFRESHES_A_SECOND,
            redirect_stdout=sys.stdout.isatty(),  # what goes into a file or a pipe stays there
        )

    @contextmanager
    def running(self) -> Iterator[Dashboard]:
        """Draw it until the block is left; messages of the log appear above it."""
        before = sys.stderr
        with self._live:
            moved = [one for one in logging.getLogger().handlers if getattr(one, "stream", None) is before]
            streams = [one for one in moved if isinstance(one, logging.StreamHandler)]
            for handler in streams:
                handler.setStream(sys.stderr)  # which is the display's own while it lives
            try:
                yield self
            finally:
                for handler in streams:
                    handler.setStream(before)

    def step_done(self) -> None:
        """Count a step."""
        self._bar.advance(self._task)

    def show(self, record: LogRecord) -> None:
        """Show the numbers of a record; each loss with its change since the one before."""
        speed = f"{1.0 / max(record.step_s, 1e-9):.3g} {_UNIT}/s"
        self._bar.update(self._task, speed=speed)
        self._live.update(self._drawn(record))
        self._before = dict(record.losses)

    def _drawn(self, record: LogRecord) -> RenderableType:
        from rich.columns import Columns
        from rich.console import Group

        losses = {name: _with_change(value, self._before.get(name)) for name, value in record.losses.items()}
        metrics = {name: _number(value) for name, value in record.metrics.items()}
        self._evals = {name: _number(value) for name, value in record.evals.items()} or self._evals
        parts = {"losses": losses, "metrics": metrics, "evaluation": self._evals, "run": _facts(record)}
        return Group(self._bar, Columns([_table(title, rows) for title, rows in parts.items() if rows], padding=(0, 3)))


def _facts(record: LogRecord) -> dict[str, str]:
    """What a record holds beside its losses and metrics, in words."""
    found = {"waiting for data": f"{waiting_share(record):.1%}"}
    for name, value in asdict(record).items():
        if isinstance(value, int | float) and name not in ("step", "data_wait_s", "data_wait_share"):
            found[name.replace("_", " ")] = _number(value)
    return found


def _table(title: str, rows: Mapping[str, str]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    made.add_column(title, no_wrap=True)
    made.add_column(justify="right", no_wrap=True)
    for name, value in list(rows.items())[:_MOST_ROWS]:
        made.add_row(name, value)
    if len(rows) > _MOST_ROWS:
        made.add_row(f"{len(rows) - _MOST_ROWS} more in log.jsonl", "")
    return made


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _with_change(value: float | None, before: float | None) -> str:
    if value is None or before is None or value == before:
        return _number(value)
    arrow = "\N{DOWNWARDS ARROW}" if value < before else "\N{UPWARDS ARROW}"
    return f"{_number(value)} {arrow}"
