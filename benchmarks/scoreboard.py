"""What a benchmark measured: a table, the ratios that count with what they should be, and the machine."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "numpy", "lmdb", "msgpack", "imageio-ffmpeg", "simplejpeg", "nvidia-dali-cuda130")


@dataclass(frozen=True)
class Goal:
    """A ratio of measured numbers and what it should be.

    Attributes:
        what: the ratio in words.
        measured: None where this machine cannot tell.
        target: where it should lie.
        at_most: whether the target is the upper end (or the lower).
        unit: written behind both numbers.
    """

    what: str
    measured: float | None
    target: float
    at_most: bool
    unit: str = "x"

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None where nothing was measured."""
        if self.measured is None:
            return None
        return self.measured <= self.target if self.at_most else self.measured >= self.target


@dataclass(frozen=True)
class Scoreboard:
    """The outcome of one benchmark.

    Attributes:
        name: of the benchmark, as `intravid bench NAME`.
        setting: what was measured on, in one line.
        columns: names of the numbers, with their units.
        rows: contender to its numbers, one a column; None where there is none.
        goals: ratios with their targets.
        remarks: what a reader of the numbers must know.
    """

    name: str
    setting: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    goals: tuple[Goal, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for contender, numbers in self.rows.items():
            if len(numbers) != len(self.columns):
                raise ValueError(f"{contender}: {len(numbers)} numbers for the columns {', '.join(self.columns)}")

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the machine and the versions that gave the numbers."""
        return {
            "benchmark": self.name,
            "setting": self.setting,
            "machine": machine(),
            "rows": {
                contender: dict(zip(self.columns, numbers, strict=True)) for contender, numbers in self.rows.items()
            },
            "goals": [
                {
                    "what": goal.what,
                    "measured": goal.measured,
                    "target": goal.target,
                    "at_most": goal.at_most,
                    "unit": goal.unit,
                    "met": goal.met,
                }
                for goal in self.goals
            ],
            "remarks": list(self.remarks),
        }

    def publish(self, path: Path | None) -> None:
        """Print the tables, as rich ones on a terminal, and write the numbers as JSON where a path is given."""
        print(f"{self.name}: {self.setting}")
        _print_table(("", *self.columns), [(name, *map(_written, row)) for name, row in self.rows.items()])
        if self.goals:
            print()
            _print_table(("ratio", "measured", "target", ""), [_goal_row(goal) for goal in self.goals])
        for remark in self.remarks:
            print(remark)
        if path:
            path.write_text(json.dumps(self.as_json(), indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Processor, cores, load and versions."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _goal_row(goal: Goal) -> tuple[str, str, str, str]:
    measured = "not measurable here" if goal.measured is None else f"{goal.measured:.3g}{goal.unit}"
    verdict = {True: "met", False: "MISSED", None: ""}[goal.met]
    return goal.what, measured, f"{'at most' if goal.at_most else 'at least'} {goal.target:g}{goal.unit}", verdict


def _written(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 1000 or number == int(number) else f"{number:.3g}"


def _print_table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table()
        for place, head in enumerate(heads):
            table.add_column(head, justify="right" if place else "left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
    for row in [heads, *rows]:
        first, *others = (
            word.rjust(width) if place else word.ljust(width)
            for place, (word, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip())
