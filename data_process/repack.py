"""A dataset into other shards: other sizes, fewer videos; records are copied as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_process.build_config import BuildSummary
from data_process.build_plan import agree_on_plan, make_folder, make_plan, manifest_lines
from data_process.errors import InputError
from data_process.rewrite import Rewritten, write_shards
from data_process.shards import ShardSet
from data_process.source import SourceVideo, first_ten

TOOL = "repack 1"


@dataclass(frozen=True)
class RepackConfig:
    """What is kept, and in which shards.

    Attributes:
        split: keep only this split; None for all.
        only: keep only these ids; None for all.
        without: leave out these ids.
        videos_per_shard: None takes 64 for sets up to 4,096 videos, 512 beyond.
        task: this task's number, from 0; it writes shards task, task + tasks, ...
        tasks: number of tasks that share the work.
    """

    split: str | None = None
    only: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    videos_per_shard: int | None = None
    task: int = 0
    tasks: int = 1

    def __post_init__(self) -> None:
        if self.tasks < 1 or not 0 <= self.task < self.tasks:
            raise InputError(f"--task {self.task} --tasks {self.tasks}: the task must lie in 0..tasks-1")
        if self.videos_per_shard is not None and self.videos_per_shard < 1:
            raise InputError(f"--videos-per-shard {self.videos_per_shard}: at least one video belongs in a shard")


def repack(root: Path, out: Path, config: RepackConfig) -> BuildSummary:
    """Write the chosen videos of a dataset as new shards; shards that exist are kept, so that a second start goes on.

    Labels and class names stay what they are, also of classes whose videos were all left out. Every checksum is
    compared while records are copied.

    Raises:
        InputError: for ids that the dataset does not have, nothing left, or an output folder of something else.
        RunError: where a record is damaged, or the disk is full.
    """
    if out.resolve() == root.resolve():
        raise InputError(f"{out} is the dataset itself; give another folder")
    shards = ShardSet(root, split=config.split)
    rows = _chosen(shards, config)
    records = {row: shards[row] for row in rows}
    videos = [
        SourceVideo(root, record.id, shards.classes[record.label] if record.label >= 0 else None, record.split)
        for record in records.values()
    ]
    plan = make_plan(
        videos,
        source=root,
        classes=shards.classes,
        settings={"repack": TOOL, "of": shards.digest},
        tool=TOOL,
        videos_per_shard=config.videos_per_shard,
    )
    make_folder(out)
    agree_on_plan(out, plan, manifest_lines(videos, [record.label for record in records.values()], root))
    row_of = {record.id: row for row, record in records.items()}

    def read(position: int) -> Rewritten:
        row = row_of[plan.videos[position].id]
        header = shards.header(row)
        units = list(shards.read_frames(row, range(header.num_frames)).units)
        return header, units, "degraded where it was built" if header.state == "degraded" else ""

    return write_shards(out, plan, read, tool=TOOL, task=config.task, tasks=config.tasks)


def _chosen(shards: ShardSet, config: RepackConfig) -> list[int]:
    def rows_of(ids: Sequence[str]) -> set[int]:
        rows, unknown = set(), []
        for one in ids:
            try:
                rows.add(shards.index_of(one))
            except KeyError:
                unknown.append(one)
        if unknown:
            raise InputError(f"{len(unknown)} ids are not in {shards.name}: {first_ten(unknown)}")
        return rows

    kept = set(range(len(shards))) if config.only is None else rows_of(config.only)
    kept -= rows_of(config.without)
    if not kept:
        raise InputError(f"no video of {shards.name} is left")
    return sorted(kept)
