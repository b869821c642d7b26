"""What the writers of a build report, one event each for a video and a shard."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Any

from data_process.build_config import BuildSummary


@dataclass(frozen=True)
class VideoEnded:
    """One video that was added to a shard, or left out.

    Attributes:
        is_stored: which of both.
        num_bytes: of its units.
        source_seconds: its own duration, 0 where it is left out.
        writer: number of the process that wrote it.
        cpu_seconds: what that process and its children have used so far.
    """

    is_stored: bool
    num_bytes: int
    source_seconds: float
    writer: int
    cpu_seconds: float


@dataclass(frozen=True)
class ShardBuilt:
    """One shard that was written.

    Attributes:
        number: of the shard.
        videos: planned for it.
        stored: states of those that it holds, ``ok`` or ``degraded``.
        rows: of its report.
        num_bytes: of its records.
        seconds: since the one before it.
    """

    number: int
    videos: int
    stored: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    num_bytes: int
    seconds: float

    @property
    def left_out(self) -> int:
        """Videos that it does not hold."""
        return sum(not row["stored"] for row in self.rows)

    def add_to(self, summary: BuildSummary) -> None:
        """Count it."""
        summary.shards_built += 1
        summary.outcomes.update(self.stored)
        summary.count_report(self.rows)


def cpu_seconds(*, with_children: bool = True) -> float:
    """Processor time of this process, and of its children that ended."""
    used = [resource.getrusage(resource.RUSAGE_SELF)]
    if with_children:
        used.append(resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)
