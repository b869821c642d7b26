"""Videos to shards: what belongs to this build and this task, what is missing of it, and what came of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from data_process import ffmpeg
from data_process.build_config import BuildConfig, BuildSummary
from data_process.build_log import BuildLog
from data_process.build_plan import BuildPlan, agree_on_plan, make_folder, make_plan, manifest_lines
from data_process.build_shards import build_shards
from data_process.durable import sweep_stale, write_durably
from data_process.errors import InputError, RunError
from data_process.index import read_header_at, record_positions, write_index
from data_process.lmdb_pages import PageFormatError, read_layout
from data_process.outcome import TRANSIENT
from data_process.quarantine import merge_reports, read_report
from data_process.shard_writer import list_shards, read_meta, shard_name
from data_process.source import SourceListing, SourceRequest, keep_subset, read_source
from data_process.transcode_config import settings_of

_READERS = 16


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
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: after TERM; as after Ctrl-C, what was finished is kept and nothing else is left.
    """
    listing = read_source(dataset, request)
    if subset is not None:
        listing = keep_subset(listing, subset)
    summary = BuildSummary(missing=len(listing.missing))
    log = BuildLog(summary, as_json=config.log_json)
    for warning in listing.warnings:
        log.warn(warning)
    plan = _agreed_plan(listing, request, out, config)
    sweep_stale(out)
    _report_missing(out, listing)
    mine = list(range(config.task, plan.num_shards, config.tasks))
    videos = sum(len(plan.shard(number)) for number in mine)
    with _told_to_the_end(log, videos):
        lacking = [number for number in mine if not _is_done(out, plan, number, config)]
        summary.shards_kept = len(mine) - len(lacking)
        log.start(config, shards=len(mine), videos=videos)
        build_shards(out, plan, lacking, config, log)
        _count_kept(out, sorted(set(mine) - set(lacking)), summary)
        if set(list_shards(out)) == set(range(plan.num_shards)):
            write_index(out, classes=plan.classes)
            merge_reports(out)
            summary.complete = True
        _refuse_too_many(out, summary, videos, config.max_bad)
    return summary


def _agreed_plan(listing: SourceListing, request: SourceRequest, out: Path, config: BuildConfig) -> BuildPlan:
    """The plan of the listed videos, which is now also that of the folder."""
    videos, source = listing.videos, request.root
    plan = make_plan(
        videos,
        source=source,
        classes=request.classes or listing.classes,
        settings=settings_of(config.transcode),
        tool=ffmpeg.version(),
        videos_per_shard=config.videos_per_shard,
        seed=config.seed,
    )
    make_folder(out)
    labels = dict(zip((video.id for video in plan.videos), plan.labels, strict=True))
    agree_on_plan(out, plan, manifest_lines(videos, [labels[video.id] for video in videos], source))
    return plan


@contextmanager
def _told_to_the_end(log: BuildLog, videos: int) -> Iterator[None]:
    """The log's last line tells how the block ended, however it did."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        log.end("stopped", videos=videos)
        raise
    except Exception:
        log.end("failed", videos=videos)
        raise
    log.end("ok", videos=videos)


def _report_missing(out: Path, listing: SourceListing) -> None:
    path = out / "missing.jsonl"
    if listing.missing:
        write_durably(path, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in listing.missing).encode())
    else:
        path.unlink(missing_ok=True)


def _is_done(out: Path, plan: BuildPlan, number: int, config: BuildConfig) -> bool:
    if not is_finished(out, plan, number):
        return False
    return not (config.retry_quarantined and any(row["code"] in TRANSIENT for row in read_report(out, number)))


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


def _count_kept(out: Path, numbers: Sequence[int], summary: BuildSummary) -> None:
    with ThreadPoolExecutor(_READERS) as pool:
        # Most of the time is spent waiting for the first page of each record.
        for number, states in zip(numbers, pool.map(lambda one: _states(out / shard_name(one)), numbers), strict=True):
            summary.count_report(read_report(out, number))
            summary.outcomes.update(states)


def _states(path: Path) -> Counter[str]:
    with path.open("rb") as file:
        places = record_positions(read_layout(path))
        return Counter(read_header_at(file.fileno(), offset, length).state for offset, length in places)


def _refuse_too_many(out: Path, summary: BuildSummary, videos: int, max_bad: float) -> None:
    if videos and summary.num_quarantined / videos > max_bad:
        raise RunError(
            f"{summary}. {summary.num_quarantined} of {videos} videos were left out, more than --max-bad "
            f"{max_bad:g} allows; the rest is stored. The reasons stand in {out}/quarantine-shard-*.jsonl; mend "
            "the files, or run again with a larger --max-bad."
        )
