"""What a build tells while it runs: shards that were written, on standard error."""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import dataclass
from typing import Any

from data_process.build_config import BuildSummary
from data_process.shard_writer import shard_name


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
        source_seconds: of the videos' own time that was stored.
        cpu_seconds: that this process and its children have used so far.
    """

    number: int
    videos: int
    stored: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    num_bytes: int
    seconds: float
    source_seconds: float
    cpu_seconds: float

    @property
    def left_out(self) -> int:
        """Videos that it does not hold."""
        return sum(not row["stored"] for row in self.rows)

    def add_to(self, summary: BuildSummary) -> None:
        """Count it."""
        summary.shards_built += 1
        summary.outcomes.update(self.stored)
        summary.count_report(self.rows)

    def tell(self, *, as_json: bool, left_s: float | None) -> None:
        """One line on standard error."""
        if as_json:
            facts = {
                "event": "shard",
                "shard": self.number,
                "videos": self.videos,
                "stored": len(self.stored),
                "bad": self.left_out,
                "bytes": self.num_bytes,
                "seconds": round(self.seconds, 3),
                "videos_per_s": round(self.videos / max(self.seconds, 1e-9), 3),
                "source_s": round(self.source_seconds, 3),
                "cpu_s": round(self.cpu_seconds, 3),
                "left_s": None if left_s is None else round(left_s),
            }
            line = json.dumps(facts)
        else:
            line = (
                f"{shard_name(self.number)}: {len(self.stored)} of {self.videos} videos, "
                f"{self.num_bytes / 1e6:.1f} MB, {self.seconds:.1f} s"
            )
        print(line, file=sys.stderr, flush=True)


def tell_end(summary: BuildSummary, total: int) -> None:
    """The last line of `--log-json`."""
    facts = {
        "event": "end",
        "videos": total,
        "outcomes": dict(summary.outcomes),
        "remarks": dict(summary.remarks),
        "missing": summary.missing,
        "bad": summary.num_quarantined,
        "shards_built": summary.shards_built,
        "shards_kept": summary.shards_kept,
        "complete": summary.complete,
        "cpu_s": round(cpu_seconds(), 3),
    }
    print(json.dumps(facts), file=sys.stderr, flush=True)


def cpu_seconds() -> float:
    """Processor time of this process and of its children that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
