"""Videos to shards: a thread per ffmpeg, one writer, records in the order of the plan."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_process import ffmpeg
from data_process.build_config import BuildConfig, BuildSummary
from data_process.build_events import tell_end
from data_process.build_plan import BuildPlan, agree_on_plan, make_folder, make_plan, manifest_lines
from data_process.build_shards import build_shards
from data_process.errors import InputError, RunError
from data_process.index import read_header_at, record_positions, write_index
from data_process.lmdb_pages import PageFormatError, read_layout
from data_process.outcome import TRANSIENT
from data_process.quarantine import merge_reports, read_report
from data_process.shard_writer import list_shards, read_meta, shard_name, sweep_stale, write_durably
from data_process.source import SourceListing, SourceRequest, keep_subset, read_source
from data_process.transcode import settings_of


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
    make_folder(out)
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
    build_shards(out, plan, missing, config, summary)
    for number in set(mine) - set(missing):
        _count_kept(out, number, summary)
    if len(list_shards(out)) == plan.num_shards:
        write_index(out, classes=plan.classes)
        merge_reports(out)
        summary.complete = True
    total = sum(len(plan.shard(number)) for number in mine)
    if config.log_json:
        tell_end(summary, total)
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
