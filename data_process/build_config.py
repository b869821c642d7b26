"""How a build runs, and what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from data_process.errors import InputError
from data_process.frames import CODECS
from data_process.transcode_config import TranscodeConfig


@dataclass(frozen=True)
class BuildConfig:
    """How a build runs; nothing here changes the stored bytes but `transcode`, `videos_per_shard` and `seed`.

    Attributes:
        transcode: what is stored of each video.
        videos_per_shard: None takes 64 for sets up to 4,096 videos, 512 beyond.
        seed: of the order of the videos.
        jobs: ffmpeg processes side by side; 0 takes one a core.
        processes: processes that write shards and share the jobs; 0 takes one for every 16 jobs, since one can feed
            about so many.
        task: this task's number, from 0; it builds shards task, task + tasks, ...
        tasks: number of tasks that share the build.
        max_bad: share of quarantined videos beyond which the build counts as failed.
        log_json: tell shards and the end as JSON lines.
        retry_quarantined: build again the shards that lost videos for reasons of the moment (time-outs, crashes).
    """

    transcode: TranscodeConfig = field(default_factory=TranscodeConfig)
    videos_per_shard: int | None = None
    seed: int = 0
    jobs: int = 0
    processes: int = 0
    task: int = 0
    tasks: int = 1
    max_bad: float = 0.01
    log_json: bool = False
    retry_quarantined: bool = False

    def __post_init__(self) -> None:
        if self.transcode.codec not in CODECS:
            raise InputError(f"codec {self.transcode.codec} is not for storing; expected one of {', '.join(CODECS)}")
        if self.tasks < 1 or not 0 <= self.task < self.tasks:
            raise InputError(f"--task {self.task} --tasks {self.tasks}: the task must lie in 0..tasks-1")
        if self.videos_per_shard is not None and self.videos_per_shard < 1:
            raise InputError(f"--videos-per-shard {self.videos_per_shard}: at least one video belongs in a shard")
        for name in ("jobs", "processes"):
            if (value := getattr(self, name)) < 0:
                raise InputError(f"--{name} {value}: expected 1 or more, or 0 to have it chosen")
        if not 0.0 <= self.max_bad <= 1.0:
            raise InputError(f"--max-bad {self.max_bad}: expected a share between 0 and 1")


@dataclass
class BuildSummary:
    """What a build did: videos stored and left out, by state and reason.

    Attributes:
        shards_built: shards that this start wrote.
        shards_kept: shards that were complete before.
        outcomes: ``ok``, ``degraded`` and quarantine codes to numbers of videos.
        remarks: further codes of stored videos (``flat``, ``small``) to numbers of videos.
        missing: videos that the annotations list and that are not there.
        complete: whether all shards of the build exist and the index was written.
    """

    shards_built: int = 0
    shards_kept: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    complete: bool = False

    @property
    def num_quarantined(self) -> int:
        """Videos left out."""
        return sum(count for code, count in self.outcomes.items() if code not in ("ok", "degraded"))

    def count_report(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add the rows of a shard's report; degraded videos are counted where they are stored."""
        for row in rows:
            if not row["stored"]:
                self.outcomes[row["code"]] += 1
            elif row["code"] != "degraded":
                self.remarks[row["code"]] += 1

    def __str__(self) -> str:
        remarks = f" (stored, but worth a look: {_counts(self.remarks)})" if self.remarks else ""
        outcomes = _counts(self.outcomes) or "no videos"
        missing = f"; {self.missing} listed videos are missing (missing.jsonl)" if self.missing else ""
        return f"{self.shards_built} shards written, {self.shards_kept} kept; {outcomes}{remarks}{missing}"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {code}" for code, count in sorted(counter.items()))
