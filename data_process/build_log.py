"""What a build tells on standard error: a bar or lines with its pace and a line a shard, or JSON lines alone."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from data_process.build_config import BuildConfig, BuildSummary
from data_process.build_events import ShardBuilt, VideoEnded, cpu_seconds
from data_process.progress import Progress, show_progress
from data_process.shard_writer import shard_name


class BuildLog:
    """Hears the events of a build, counts them into its summary and tells them.

    Args:
        summary: what is counted.
        as_json: JSON lines in the place of text, for array jobs: ``start``, ``warning``, ``shard`` and ``end``, the
            last also where the build fails or is stopped.
    """

    def __init__(self, summary: BuildSummary, *, as_json: bool) -> None:
        self._summary, self._as_json = summary, as_json
        self._planned = self._done = self._bad = self._bytes = 0
        self._source_s, self._begin = 0.0, time.monotonic()
        self._cpu_before = cpu_seconds()
        self._cpu_of: dict[int, float] = {}
        self._progress: Progress | None = None

    def warn(self, text: str) -> None:
        """Something that a person should know, a sentence."""
        self._tell("warning", {"text": text}, f"warning: {text}")

    def start(self, config: BuildConfig, *, shards: int, videos: int) -> None:
        """What this task is about to do."""
        facts = {"task": config.task, "tasks": config.tasks, "shards": shards, "kept": self._summary.shards_kept}
        text = f"task {config.task} of {config.tasks} (--task, --tasks or the SLURM array): {shards} shards are its own"
        self._tell("start", facts | {"videos": videos}, text if config.tasks > 1 else "")

    @contextmanager
    def shown(self, videos: int) -> Iterator[None]:
        """Tell how far the work is, of so many videos."""
        self._planned, self._begin = videos, time.monotonic()
        if self._as_json:
            yield
            return
        with show_progress("build", videos, unit="videos") as self._progress:
            yield

    def heard(self, event: VideoEnded | ShardBuilt) -> None:
        """Count and tell what a writer reports."""
        if isinstance(event, ShardBuilt):
            event.add_to(self._summary)
            self._tell_shard(event)
            return
        self._done += 1
        self._bad += not event.is_stored
        self._bytes += event.num_bytes
        self._source_s += event.source_seconds
        self._cpu_of[event.writer] = event.cpu_seconds
        if self._progress is not None:
            pace = self._source_s / max(self._cpu_s(), 1e-9)
            self._progress.advance(bad=self._bad, MB=round(self._bytes / 1e6, 1), source_s_per_core_s=round(pace, 1))

    def end(self, status: str, *, videos: int = 0) -> None:
        """The last line: ``ok``, ``failed`` or ``stopped``, with the counts of each code and the pace of this start."""
        summary = self._summary
        facts = {
            "status": status,
            "videos": videos,
            "outcomes": dict(summary.outcomes),
            "remarks": dict(summary.remarks),
            "missing": summary.missing,
            "bad": summary.num_quarantined,
            "shards_built": summary.shards_built,
            "shards_kept": summary.shards_kept,
            "complete": summary.complete,
            "bytes": self._bytes,
        }
        stopped = f"stopped; {summary.shards_built} shards were written, the same command goes on with the others"
        self._tell("end", facts | self._pace(), stopped if status == "stopped" else "")

    def _tell_shard(self, event: ShardBuilt) -> None:
        facts = {
            "shard": event.number,
            "videos": event.videos,
            "stored": len(event.stored),
            "bad": event.left_out,
            "bytes": event.num_bytes,
            "shard_seconds": round(event.seconds, 3),
            "done": self._done,
            "planned": self._planned,
        }
        text = (
            f"{shard_name(event.number)}: {len(event.stored)} of {event.videos} videos, "
            f"{event.num_bytes / 1e6:.1f} MB, {event.seconds:.1f} s"
        )
        self._tell("shard", facts | self._pace(), text)

    def _pace(self) -> dict[str, float | int | None]:
        """Of this start, up to now."""
        seconds, cpu_s = time.monotonic() - self._begin, self._cpu_s()
        left = (self._planned - self._done) * seconds / self._done if self._done else None
        return {
            "seconds": round(seconds, 3),
            "videos_per_s": round(self._done / max(seconds, 1e-9), 3),
            "source_s": round(self._source_s, 3),
            "cpu_s": round(cpu_s, 3),
            "source_s_per_core_s": round(self._source_s / max(cpu_s, 1e-9), 3),
            "left_s": None if left is None else round(left),
        }

    def _cpu_s(self) -> float:
        """Of all writers; the imports of this process are not the build's."""
        own = self._cpu_of.get(os.getpid(), cpu_seconds(with_children=False)) - self._cpu_before
        return max(0.0, own) + sum(used for writer, used in self._cpu_of.items() if writer != os.getpid())

    def _tell(self, event: str, facts: Mapping[str, object], text: str) -> None:
        line = json.dumps({"event": event, **facts}, ensure_ascii=False) if self._as_json else text
        if line:
            print(line, file=sys.stderr, flush=True)
