"""Progress of long work: a rich bar on a terminal, a plain line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """A running display."""

    def advance(self, count: int = 1, **facts: object) -> None:
        """Count finished units; `facts` (name to value) replace those shown beside the bar."""


@contextmanager
def show_progress(
    label: str, total: int, *, unit: str, done: int = 0, line_every_s: float = 10.0
) -> Iterator[Progress]:
    """Show how far a piece of work is, its speed in units per second and the time left.

    Args:
        label: what is being done.
        total: number of units in all.
        unit: their name in the plural, for instance ``videos``.
        done: units finished before this start (a resumed run); they do not count for the speed.
        line_every_s: seconds between lines where standard error is not a terminal.
    """
    if sys.stderr.isatty():
        with _bar(label, total, unit, done) as bar:
            yield bar
    else:
        lines = _Lines(label, total, unit, done, line_every_s)
        yield lines
        lines.write()


@contextmanager
def _bar(label: str, total: int, unit: str, done: int) -> Iterator[Progress]:
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[speed]}"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[facts]}"),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as display:
        task = display.add_task(label, total=total, completed=done, speed="", facts="")
        start, finished = time.monotonic(), 0

        class Bar:
            def advance(self, count: int = 1, **facts: object) -> None:
                nonlocal finished
                finished += count
                speed = finished / max(time.monotonic() - start, 1e-9)
                display.update(task, advance=count, speed=f"{speed:.1f} {unit}/s", facts=_written(facts))

        yield Bar()


class _Lines:
    def __init__(self, label: str, total: int, unit: str, done: int, every_s: float) -> None:
        self._label, self._total, self._unit, self._every_s = label, total, unit, every_s
        self._before, self._finished, self._facts = done, 0, ""
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1, **facts: object) -> None:
        self._finished += count
        self._facts = _written(facts)
        if time.monotonic() - self._last >= self._every_s:
            self.write()

    def write(self) -> None:
        self._last = time.monotonic()
        speed = self._finished / max(self._last - self._start, 1e-9)
        done = self._before + self._finished
        left = f", {(self._total - done) / speed:.0f} s left" if speed > 0 and done < self._total else ""
        facts = f", {self._facts}" if self._facts else ""
        line = f"{self._label}: {done}/{self._total} {self._unit}, {speed:.1f} {self._unit}/s{left}{facts}"
        print(line, file=sys.stderr, flush=True)


def _written(facts: dict[str, object]) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items()
    )
