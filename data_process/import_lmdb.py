"""Databases of CoCLR and CSTP into shards, frame by frame as they are: nothing is encoded again."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from data_process.build_config import BuildSummary
from data_process.build_plan import BuildPlan, agree_on_plan, make_folder, make_plan, manifest_lines
from data_process.errors import InputError, RunError
from data_process.legacy_lmdb import LegacyDatabase, LegacyVideo
from data_process.records import RecordHeader, describe_units
from data_process.rewrite import LeftOutError, Rewritten, write_shards
from data_process.source import SourceVideo, first_ten, is_utf8

TOOL = "import-lmdb 1"
_END_OF_IMAGE = b"\xff\xd9"
_TAIL = 64
"""Bytes in which a JPEG's end marker is looked for: some encoders fill up behind it."""


@dataclass(frozen=True)
class ImportConfig:
    """How a database is imported.

    Attributes:
        split: of all its videos; the databases do not know any.
        fps: rate that the frames were extracted at, which they do not know either (CSTP: 30 for Kinetics, 25 for UCF101
            and HMDB51; CoCLR: the videos' own); 0 for unknown.
        videos_per_shard: None takes 64 for sets up to 4,096 videos, 512 beyond.
        task: this task's number, from 0; it writes shards task, task + tasks, ...
        tasks: number of tasks that share the work.
        max_bad: share of videos left out beyond which the import counts as failed.
    """

    split: str = "train"
    fps: float = 0.0
    videos_per_shard: int | None = None
    task: int = 0
    tasks: int = 1
    max_bad: float = 0.01

    def __post_init__(self) -> None:
        if self.tasks < 1 or not 0 <= self.task < self.tasks:
            raise InputError(f"--task {self.task} --tasks {self.tasks}: the task must lie in 0..tasks-1")
        if not 0 <= self.fps < math.inf:
            raise InputError(f"--fps {self.fps}: expected frames per second, or 0 for unknown")
        if self.videos_per_shard is not None and self.videos_per_shard < 1:
            raise InputError(f"--videos-per-shard {self.videos_per_shard}: at least one video belongs in a shard")
        if not 0.0 <= self.max_bad <= 1.0:
            raise InputError(f"--max-bad {self.max_bad}: expected a share between 0 and 1")


def import_lmdb(source: Path, out: Path, config: ImportConfig, *, classes: Sequence[str] | None = None) -> BuildSummary:
    """Write the videos of a database as shards; shards that exist are kept, so that a second start goes on.

    Raises:
        InputError: for a source that is no such database, or an output folder of another build.
        RunError: where the disk is full, or too many videos had to be left out (after everything else was stored).
    """
    with LegacyDatabase(source) as database:
        listing = database.listing()
        for warning in listing.warnings:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        entries = {one.name: one for one in listing.videos}
        plan = _agreed_plan(source, out, sorted(entries), config, classes)

        def read(position: int) -> Rewritten:
            video = plan.videos[position]
            units = database.frames(entries[video.id].key)
            header, odd = _header(video, plan.labels[position], units, entries[video.id], config)
            return header, units, odd

        summary = write_shards(out, plan, read, tool=TOOL, task=config.task, tasks=config.tasks)
    total = sum(len(plan.shard(number)) for number in range(config.task, plan.num_shards, config.tasks))
    if total and summary.num_quarantined / total > config.max_bad:
        raise RunError(
            f"{summary}. {summary.num_quarantined} of {total} videos were left out, more than --max-bad "
            f"{config.max_bad:g} allows; the rest is stored. The reasons stand in {out}/quarantine-shard-*.jsonl."
        )
    return summary


def _agreed_plan(
    source: Path, out: Path, names: Sequence[str], config: ImportConfig, classes: Sequence[str] | None
) -> BuildPlan:
    """What goes into which shard, written to the folder or compared with what stands there."""
    unwritable = [ascii(name) for name in names if not is_utf8(name)]
    if unwritable:
        raise InputError(f"{len(unwritable)} names of {source} are not UTF-8: {first_ten(unwritable)}")
    videos = [SourceVideo(source, name, _class_of(name), config.split) for name in names]
    plan = make_plan(
        videos,
        source=source,
        classes=classes,
        settings={"import": TOOL, "fps": config.fps},
        tool=TOOL,
        videos_per_shard=config.videos_per_shard,
    )
    labels = dict(zip((video.id for video in plan.videos), plan.labels, strict=True))
    make_folder(out)
    agree_on_plan(out, plan, manifest_lines(videos, [labels[video.id] for video in videos], source))
    return plan


def _class_of(name: str) -> str | None:
    return name.rpartition("/")[0].rpartition("/")[2] or None


def _header(
    video: SourceVideo, label: int, units: list[bytes], entry: LegacyVideo, config: ImportConfig
) -> tuple[RecordHeader, str]:
    """Header of a video's record, and what is odd about it.

    Raises:
        LeftOutError: for videos without frames or of frames that are no JPEGs of one size.
    """
    from simplejpeg import decode_jpeg_header

    if not units:
        raise LeftOutError("the entry holds no frames", "zero_frames")
    try:
        headers = [decode_jpeg_header(unit) for unit in units]
    except ValueError as error:
        raise LeftOutError(f"a frame is no JPEG ({error})") from None
    cut = [number for number, unit in enumerate(units) if _END_OF_IMAGE not in unit[-_TAIL:]]
    if cut:
        # Decoders refuse such a frame, which would end a training run hours later.
        raise LeftOutError(f"{len(cut)} of {len(units)} frames are cut short, the first is {cut[0]}", "truncated")
    sizes = {(int(header[0]), int(header[1])) for header in headers}
    if len(sizes) > 1:
        raise LeftOutError(f"its frames have different sizes: {sorted(sizes)[:3]}", "mixed_sizes")
    ((height, width),) = sizes
    odd = ""
    if entry.listed_frames not in (None, len(units)):
        odd = f"__vlen__ tells {entry.listed_frames} frames, the entry holds {len(units)}"
    rate = Fraction(config.fps).limit_denominator(1001)
    unit_sizes, crcs = describe_units(units)
    header = RecordHeader(
        id=video.id,
        label=label,
        split=video.split,
        codec="jpeg",
        width=width,
        height=height,
        fps=(rate.numerator, rate.denominator),
        num_frames=len(units),
        unit_sizes=unit_sizes,
        unit_crcs=crcs,
        source={"codec": "lmdb", "key": entry.key.decode()},
        state="degraded" if odd else "ok",
    )
    return header, odd
