"""Videos to shards: a thread per ffmpeg, one writer, records in the order of the plan."""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from data_process import ffmpeg
from data_process.build_plan import BuildPlan, agree_on_plan, make_plan, manifest_lines
from data_process.errors import InputError, RunError
from data_process.index import read_header_at, record_positions, write_index
from data_process.lmdb_pages import PageFormatError, read_layout
from data_process.progress import Progress, show_progress
from data_process.shard_writer import ShardWriter, list_shards, read_meta, shard_name, sweep_stale, write_durably
from data_process.source import read_source
from data_process.transcode import TRANSIENT, Quarantined, Stored, TranscodeConfig, settings_of, transcode


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


@dataclass
class BuildSummary:
    """What a build did: videos stored and left out, by state and reason.

    Attributes:
        shards_built: shards that this start wrote.
        shards_kept: shards that were complete before.
        outcomes: ``ok``, ``degraded`` and quarantine codes to numbers of videos.
        complete: whether all shards of the build exist and the index was written.
    """

    shards_built: int = 0
    shards_kept: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    complete: bool = False

    @property
    def num_quarantined(self) -> int:
        """Videos left out."""
        return sum(count for code, count in self.outcomes.items() if code not in ("ok", "degraded"))

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {code}" for code, count in sorted(self.outcomes.items())) or "no videos"
        return f"{self.shards_built} shards written, {self.shards_kept} kept; {outcomes}"


def build(
    dataset: str,
    source: Path,
    out: Path,
    config: BuildConfig,
    *,
    split: str = "train",
    classes: list[str] | None = None,
) -> BuildSummary:
    """Store the videos of a source as shards; shards that exist are kept, so that a second start goes on.

    Raises:
        InputError: for a source or output folder that does not fit; nothing was written.
        RunError: where the disk is full, or too many videos had to be left out (after everything else was stored).
    """
    videos = read_source(dataset, source, split=split)
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
    except OSError as error:
        raise InputError(f"{out} cannot be made a folder ({error}); give another output folder") from None
    labels = dict(zip((video.id for video in plan.videos), plan.labels, strict=True))
    agree_on_plan(out, plan, manifest_lines(videos, [labels[video.id] for video in videos], source))
    sweep_stale(out)
    if config.retry_quarantined:
        _drop_transient(out)
    summary = BuildSummary()
    mine = list(range(config.task, plan.num_shards, config.tasks))
    missing = [number for number in mine if not _is_finished(out, plan, number)]
    summary.shards_kept = len(mine) - len(missing)
    _build_shards(out, plan, missing, config, summary)
    for number in set(mine) - set(missing):
        _count_kept(out, number, summary)
    if len(list_shards(out)) == plan.num_shards:
        write_index(out, classes=plan.classes)
        summary.complete = True
    total = sum(len(plan.shard(number)) for number in mine)
    if total and summary.num_quarantined / total > config.max_bad:
        raise RunError(
            f"{summary}. {summary.num_quarantined} of {total} videos were left out, more than --max-bad "
            f"{config.max_bad:g} allows; the rest is stored. The reasons stand in {out}/quarantine-shard-*.jsonl; mend "
            "the files, or run again with a larger --max-bad."
        )
    return summary


def _is_finished(out: Path, plan: BuildPlan, number: int) -> bool:
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


def _quarantine_path(out: Path, number: int) -> Path:
    return out / f"quarantine-{shard_name(number).removesuffix('.lmdb')}.jsonl"


def _read_quarantine(out: Path, number: int) -> list[dict[str, object]]:
    path = _quarantine_path(out, number)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _drop_transient(out: Path) -> None:
    for number, path in list_shards(out).items():
        if any(row["code"] in TRANSIENT for row in _read_quarantine(out, number)):
            path.unlink()


def _count_kept(out: Path, number: int, summary: BuildSummary) -> None:
    summary.outcomes.update(str(row["code"]) for row in _read_quarantine(out, number))
    path = out / shard_name(number)
    with path.open("rb") as file:
        for offset, length in record_positions(read_layout(path)):
            summary.outcomes[read_header_at(file.fileno(), offset, length).state] += 1


def _build_shards(out: Path, plan: BuildPlan, numbers: list[int], config: BuildConfig, summary: BuildSummary) -> None:
    jobs = config.jobs or len(os.sched_getaffinity(0))
    positions = [position for number in numbers for position in plan.shard(number)]
    with (
        show_progress("build", len(positions), unit="videos") as progress,
        ThreadPoolExecutor(jobs, thread_name_prefix="ffmpeg") as pool,
    ):
        outcomes = _in_order(pool, plan, positions, config.transcode, ahead=jobs + 2)
        for number in numbers:
            _build_shard(out, plan, number, outcomes, summary, progress)


def _in_order(
    pool: ThreadPoolExecutor, plan: BuildPlan, positions: list[int], config: TranscodeConfig, *, ahead: int
) -> Iterator[Stored | Quarantined]:
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
    left_out: list[dict[str, object]] = []
    with ShardWriter(out, number, settings_digest=plan.settings_digest, tool=ffmpeg.version()) as writer:
        for position in plan.shard(number):
            outcome = next(outcomes)
            if isinstance(outcome, Stored):
                writer.add(outcome.header, outcome.units)
                summary.outcomes[outcome.header.state] += 1
            else:
                left_out.append(_report_row(plan, position, outcome))
                summary.outcomes[outcome.code] += 1
            progress.advance(bad=summary.num_quarantined)
        # Before the shard appears: a shard without its report would hide what was left out.
        report = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in left_out)
        path = _quarantine_path(out, number)
        if report:
            write_durably(path, report.encode())
        else:
            path.unlink(missing_ok=True)
    summary.shards_built += 1


def _report_row(plan: BuildPlan, position: int, outcome: Quarantined) -> dict[str, object]:
    video = plan.videos[position]
    stat = video.path.stat() if video.path.exists() else None
    return {
        "id": video.id,
        "path": str(video.path),
        "bytes": stat.st_size if stat else None,
        "mtime": stat.st_mtime if stat else None,
        "code": outcome.code,
        "detail": outcome.detail,
        "status": outcome.status,
        "frames": outcome.frames,
        "source": outcome.facts,
        "attempts": outcome.attempts,
        "seconds": round(outcome.seconds, 3),
        "ffmpeg": ffmpeg.version(),
    }
