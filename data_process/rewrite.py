"""Records that exist already into new shards, without encoding anything again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_process.build import is_finished
from data_process.build_config import BuildSummary
from data_process.build_plan import BuildPlan
from data_process.durable import sweep_stale
from data_process.index import write_index
from data_process.progress import Progress, show_progress
from data_process.quarantine import merge_reports, read_report, write_report
from data_process.records import RecordHeader
from data_process.shard_writer import ShardWriter, list_shards, read_meta, shard_name

Rewritten = tuple[RecordHeader, list[bytes], str]
"""Header and units of a record, and what a person should know of it (or nothing)."""


class LeftOutError(ValueError):
    """A record that cannot be stored.

    Attributes:
        code: reason for the report, one word.
    """

    def __init__(self, what: str, code: str = "unreadable") -> None:
        super().__init__(what)
        self.code = code


def write_shards(
    out: Path, plan: BuildPlan, read: Callable[[int], Rewritten], *, tool: str, task: int = 0, tasks: int = 1
) -> BuildSummary:
    """Write this task's shards of a plan that the folder agreed on, and the index once all are there.

    Args:
        out: folder of the shards; those that exist are kept.
        plan: what goes where.
        read: position in the plan to its record; `LeftOutError` for what cannot be stored.
        tool: what wrote them, for the shards.
        task: this task's number, from 0.
        tasks: number of tasks that share the work.

    Raises:
        RunError: where the disk is full.
    """
    sweep_stale(out)
    summary = BuildSummary()
    mine = range(task, plan.num_shards, tasks)
    missing = [number for number in mine if not is_finished(out, plan, number)]
    for number in sorted(set(mine) - set(missing)):
        _count_kept(out, number, summary)
    with show_progress("write", sum(len(plan.shard(number)) for number in missing), unit="videos") as progress:
        for number in missing:
            _write_shard(out, plan, number, read, tool, summary, progress)
    if len(list_shards(out)) == plan.num_shards:
        write_index(out, classes=plan.classes)
        merge_reports(out)
        summary.complete = True
    return summary


def _count_kept(out: Path, number: int, summary: BuildSummary) -> None:
    rows = read_report(out, number)
    summary.shards_kept += 1
    summary.count_report(rows)
    degraded = sum(row["code"] == "degraded" for row in rows)
    stored = read_meta(out / shard_name(number))["records"]
    summary.outcomes += Counter({"ok": stored - degraded, "degraded": degraded})


def _write_shard(
    out: Path,
    plan: BuildPlan,
    number: int,
    read: Callable[[int], Rewritten],
    tool: str,
    summary: BuildSummary,
    progress: Progress,
) -> None:
    rows: list[dict[str, Any]] = []
    with ShardWriter(out, number, settings_digest=plan.settings_digest, tool=tool) as writer:
        for position in plan.shard(number):
            video = plan.videos[position]
            row = {"id": video.id, "path": str(video.path)}
            try:
                header, units, odd = read(position)
            except LeftOutError as error:
                rows.append({**row, "stored": False, "code": error.code, "detail": str(error)})
            else:
                writer.add(header, units)
                summary.outcomes[header.state] += 1
                if odd:
                    rows.append({**row, "stored": True, "code": "degraded", "detail": odd})
            progress.advance()
        # Before the shard appears: a shard without its report would hide what was left out.
        write_report(out, number, rows)
    summary.count_report(rows)
    summary.shards_built += 1
