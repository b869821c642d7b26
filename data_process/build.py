"""Videos to shards: a thread per ffmpeg, one writer, records in the order of the plan."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_process import ffmpeg
from data_process.build_plan import BuildPlan, agree_on_plan, make_plan, manifest_lines
from data_process.cores import available_cores
from data_process.errors import InputError, RunError
from data_process.index import read_header_at, record_positions, write_index
from data_process.lmdb_pages import PageFormatError, read_layout
from data_process.outcome import TRANSIENT, Quarantined, Stored
from data_process.progress import Progress, show_progress
from data_process.quarantine import merge_reports, read_report, write_report
from data_process.shard_writer import ShardWriter, list_shards, read_meta, shard_name, sweep_stale, write_durably
from data_process.source import SourceListing, SourceRequest, keep_subset, read_source
from data_process.transcode import TranscodeConfig, settings_of, transcode


@dataclass(frozen=True)
class BuildConfig:
    """How a build runs; nothing here changes the stored bytes but `transcode`, `videos_per_shard` and `seed`.

    Attributes:
        transcode: what is stored of each video.
        videos_per_shard: None takes 64 for sets up to 4,096 videos, 512 beyond.
        seed: of the order of the videos.
        jobs: ffmpeg processes side by side; 0 takes one a core.
        task: this task's number, from 0; it builds shards task, task + tasks, ...
        tasks: number of tasks that share the build.
        max_bad: share of quarantined videos beyond which the build counts as failed.
        retry_quarantined: build again the shards that lost videos for reasons of the moment (time-outs, crashes).
    """

    transcode: TranscodeConfig = field(default_factory=TranscodeConfig)
    videos_per_shard: int | None = None
    seed: int = 0
    jobs: int = 0
    task: int = 0
    tasks: int = 1
    max_bad: float = 0.01
    retry_quarantined: bool = False

    def __post_init__(self) -> None:
        if self.tasks < 1 or not 0 <= self.task < self.tasks:
            raise InputError(f"--task {self.task} --tasks {self.tasks}: the task must lie in 0..tasks-1")
        if self.videos_per_shard is not None and self.videos_per_shard < 1:
            raise InputError(f"--videos-per-shard {self.videos_per_shard}: at least one video belongs in a shard")
        if self.jobs < 0:
            raise InputError(f"--jobs {self.jobs}: expected 1 or more, or 0 for one a core")
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


def build(
    dataset: str,
    request: SourceRequest,
    out: Path,
    config: BuildConfig,
    *,
    subset: Sequence[str] | None = None,
) -> BuildSummary:
    """Store the videos of a source as shards; shards that exist are kept, so that a second start goes on.

    Args:
        dataset: name of the adapter.
        request: what it is asked to read.
        out: folder of the shards.
        config: how.
        subset: ids of the videos to store; None for all.

    Raises:
        InputError: for a source or output folder that does not fit; nothing was written.
        RunError: where the disk is full, or too many videos had to be left out (after everything else was stored).
    """
    listing = read_source(dataset, request)
    if subset is not None:
        listing = keep_subset(listing, subset)
    for warning in listing.warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    videos, source, classes = listing.videos, request.root, request.classes or listing.classes
    plan = make_plan(
        videos,
        source=source,
        classes=classes,
        settings=settings_of(config.transcode),
        tool=ffmpeg.version(),
        videos_per_shard=config.videos_per_shard,
        seed=config.seed,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(f"no permission to write to {out}")
    except OSError as error:
        raise InputError(f"{out} cannot be written to ({error}); give another output folder") from None
    labels = dict(zip((video.id for video in plan.videos), plan.labels, strict=True))
    agree_on_plan(out, plan, manifest_lines(videos, [labels[video.id] for video in videos], source))
    sweep_stale(out)
    mine = list(range(config.task, plan.num_shards, config.tasks))
    if config.retry_quarantined:
        _drop_transient(out, mine)
    _report_missing(out, listing)
    summary = BuildSummary(missing=len(listing.missing))
    missing = [number for number in mine if not is_finished(out, plan, number)]
    summary.shards_kept = len(mine) - len(missing)
    _build_shards(out, plan, missing, config, summary)
    for number in set(mine) - set(missing):
        _count_kept(out, number, summary)
    if len(list_shards(out)) == plan.num_shards:
        write_index(out, classes=plan.classes)
        merge_reports(out)
        summary.complete = True
    total = sum(len(plan.shard(number)) for number in mine)
    if total and summary.num_quarantined / total > config.max_bad:
        raise RunError(
            f"{summary}. {summary.num_quarantined} of {total} videos were left out, more than --max-bad "
            f"{config.max_bad:g} allows; the rest is stored. The reasons stand in {out}/quarantine-shard-*.jsonl; mend "
            "the files, or run again with a larger --max-bad."
        )
    return summary


def _report_missing(out: Path, listing: SourceListing) -> None:
    path = out / "missing.jsonl"
    if listing.missing:
        write_durably(path, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in listing.missing).encode())
    else:
        path.unlink(missing_ok=True)


def is_finished(out: Path, plan: BuildPlan, number: int) -> bool:
    """Whether a shard of this plan is there.

    Raises:
        InputError: where its file is damaged or of another plan.
    """
    path = out / shard_name(number)
    if not path.exists():
        return False
    try:
        digest = read_meta(path)["settings"]
    except (PageFormatError, KeyError) as error:
        raise InputError(
            f"{path} is no intact shard ({error}). Move it away and run the same command: only it is rebuilt."
        ) from None
    if digest != plan.settings_digest:
        raise InputError(f"{path} comes from another build. Move it away and run the same command: only it is rebuilt.")
    return True


def _drop_transient(out: Path, numbers: Iterable[int]) -> None:
    for number in numbers:
        if any(row["code"] in TRANSIENT for row in read_report(out, number)):
            (out / shard_name(number)).unlink(missing_ok=True)


def _count_kept(out: Path, number: int, summary: BuildSummary) -> None:
    summary.count_report(read_report(out, number))
    path = out / shard_name(number)
    with path.open("rb") as file:
        for offset, length in record_positions(read_layout(path)):
            summary.outcomes[read_header_at(file.fileno(), offset, length).state] += 1


def _build_shards(out: Path, plan: BuildPlan, numbers: list[int], config: BuildConfig, summary: BuildSummary) -> None:
    jobs = config.jobs or available_cores()
    positions = [position for number in numbers for position in plan.shard(number)]
    with (
        show_progress("build", len(positions), unit="videos") as progress,
        ThreadPoolExecutor(jobs, thread_name_prefix="ffmpeg") as pool,
        # Closed before the pool, which would otherwise finish what is waiting although nobody wants it any more.
        closing(_in_order(pool, plan, positions, config.transcode, ahead=jobs + 2)) as outcomes,
    ):
        for number in numbers:
            _build_shard(out, plan, number, outcomes, summary, progress)


def _in_order(
    pool: ThreadPoolExecutor, plan: BuildPlan, positions: list[int], config: TranscodeConfig, *, ahead: int
) -> Generator[Stored | Quarantined]:
    """Outcomes in the order of the plan, at most `ahead` videos in work or waiting, so that memory stays bounded."""
    waiting: deque[Future[Stored | Quarantined]] = deque()
    try:
        for position in positions:
            waiting.append(pool.submit(transcode, plan.videos[position], plan.labels[position], config))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _build_shard(
    out: Path,
    plan: BuildPlan,
    number: int,
    outcomes: Iterator[Stored | Quarantined],
    summary: BuildSummary,
    progress: Progress,
) -> None:
    start, rows = time.monotonic(), []
    positions = plan.shard(number)
    with ShardWriter(out, number, settings_digest=plan.settings_digest, tool=ffmpeg.version()) as writer:
        for position in positions:
            outcome = next(outcomes)
            if isinstance(outcome, Stored):
                writer.add(outcome.header, outcome.units)
                summary.outcomes[outcome.header.state] += 1
            new_rows = outcome.report_rows(plan.videos[position])
            summary.count_report(new_rows)
            rows += new_rows
            progress.advance(bad=summary.num_quarantined)
        # Before the shard appears: a shard without its report would hide what was left out.
        write_report(out, number, rows)
    summary.shards_built += 1
    left_out = sum(not row["stored"] for row in rows)
    print(
        f"{shard_name(number)}: {len(positions) - left_out} of {len(positions)} videos, "
        f"{writer.num_bytes / 1e6:.1f} MB, {time.monotonic() - start:.1f} s",
        file=sys.stderr,
        flush=True,
    )
