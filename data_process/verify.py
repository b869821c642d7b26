"""Checking a dataset of shards, from names and sizes (level 0) to decoded frames (level 4)."""

from __future__ import annotations

import hashlib
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_process.build_plan import read_plan
from data_process.cores import available_cores
from data_process.decoding import decode
from data_process.errors import InputError, RunError
from data_process.frames import STREAMS, EncodedFrames
from data_process.index import Index, index_row, read_header_at, read_index, record_positions
from data_process.lmdb_pages import PageFormatError, read_layout
from data_process.progress import show_progress
from data_process.quarantine import read_json_lines, read_report, report_path
from data_process.records import RecordFormatError, RecordHeader
from data_process.shard_writer import list_shards, shard_name
from data_process.source import first_ten

LEVELS = {
    0: "names and sizes",
    1: "page structure, record counts, shards against index, videos against the manifest",
    2: "every record's header against the index",
    3: "every frame's checksum",
    4: "every k-th frame decoded",
}


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    Attributes:
        path: the file.
        what: what was found and what was expected.
        shard: number of the shard that has to be built again; None where none has to.
    """

    path: Path
    what: str
    shard: int | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class VerifyConfig:
    """How much is checked, and by how many.

    Attributes:
        level: one of `LEVELS`; each includes those below.
        every: at level 4 frames 0, k, 2k, ... of each video are decoded.
        jobs: threads that check a shard each; 0 for one a core.
        task: this task's number, from 0; it checks shards task, task + tasks, ...
        tasks: number of tasks that share the shards.
    """

    level: int = 2
    every: int = 16
    jobs: int = 0
    task: int = 0
    tasks: int = 1

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise InputError(f"--level {self.level}: levels are 0 to {max(LEVELS)}")
        if self.every < 1 or self.jobs < 0:
            raise InputError(f"--every {self.every} --jobs {self.jobs}: expected 1 or more (jobs 0: one a core)")
        if self.tasks < 1 or not 0 <= self.task < self.tasks:
            raise InputError(f"--task {self.task} --tasks {self.tasks}: the task must lie in 0..tasks-1")


def verify(root: Path, config: VerifyConfig | None = None) -> list[Damage]:
    """All damage that a level finds.

    Raises:
        InputError: for a folder that holds no indexed dataset.
    """
    config = config or VerifyConfig()
    index = read_index(root)
    # The folder as a whole is the first task's.
    found = list(_check_names(root, index)) if config.task == 0 else []
    if config.level > 0 and config.task == 0:
        found += _check_manifest(root, index)
    mine = [number for number in index.shards if number % config.tasks == config.task]

    def check(number: int) -> list[Damage]:
        try:
            return _check_shard(root, index, number, config)
        except OSError as error:
            return [Damage(root / index.shards[number]["name"], f"cannot be read ({error})", number)]

    with (
        show_progress(f"verify, level {config.level}", len(mine), unit="shards") as progress,
        ThreadPoolExecutor(config.jobs or available_cores()) as pool,
    ):
        for damage in pool.map(check, mine):
            found += damage
            progress.advance(damaged=len(found))
    return found


def move_damaged(root: Path, damage: Iterable[Damage]) -> list[Path]:
    """Move damaged shards, and their reports, to ``ROOT/damaged``, where no reader looks; `build` then replaces them.

    Returns:
        Where they lie now. What was there before under the same name is replaced.
    """
    numbers = sorted({one.shard for one in damage if one.shard is not None})
    aside = root / "damaged"
    moved = []
    for number in numbers:
        for path in (root / shard_name(number), report_path(root, number)):
            if path.exists():
                aside.mkdir(exist_ok=True)
                moved.append(path.replace(aside / path.name))
    return moved


def _check_names(root: Path, index: Index) -> Iterator[Damage]:
    present = list_shards(root)
    for number, path in present.items():
        if number not in index.shards:
            yield Damage(path, f"is not in the index; `intravid index {root}` adds it")
    if (root / "plan.json").exists():
        planned = read_plan(root)["shards"]
        missing = sorted(set(range(planned)) - set(present) - set(index.shards))
        if missing:
            yield Damage(
                root / "plan.json",
                f"{len(missing)} of {planned} planned shards are not there, the first is {missing[0]}",
            )
    for path in sorted(root.glob("*.tmp.*")):
        yield Damage(path, "is left over from a build that was killed; the next build removes it")


def _check_manifest(root: Path, index: Index) -> Iterator[Damage]:
    """Every video of the manifest is stored or in a report, and nothing else is stored."""
    path = root / "manifest.jsonl"
    if not path.exists():
        return
    planned = {row["id"] for row in read_json_lines(path)}
    stored = set(index.ids)
    reported = {row["id"] for number in index.shards for row in read_report(root, number) if not row["stored"]}
    for what, ids in (
        ("are neither stored nor in a report", planned - stored - reported),
        ("are stored, but not in the manifest", stored - planned),
    ):
        if ids:
            yield Damage(path, f"{len(ids)} videos {what}: {first_ten(sorted(ids))}")


def _check_shard(root: Path, index: Index, number: int, config: VerifyConfig) -> list[Damage]:
    facts = index.shards[number]
    path = root / facts["name"]
    if not path.exists():
        return [Damage(path, "is in the index but missing", number)]
    size = path.stat().st_size
    if size != facts["size"]:
        return [Damage(path, f"has {size} bytes, the index says {facts['size']}", number)]
    if config.level == 0:
        return []
    try:
        places = record_positions(read_layout(path))
    except PageFormatError as error:
        return [Damage(path, str(error), number)]
    offsets = np.array([offset for offset, _ in places], dtype="<u8").tobytes()
    if len(places) != facts["records"] or hashlib.sha256(offsets).hexdigest() != facts["offsets_sha256"]:
        return [Damage(path, f"its records lie elsewhere than indexed; `intravid index {root}` writes a new index")]
    if config.level == 1:
        return []
    own = np.flatnonzero(index.rows["shard"] == number)
    rows = own[np.argsort(index.rows["position"][own])]
    if len(rows) != len(places):
        return [Damage(path, f"holds {len(places)} records, the index has {len(rows)} rows of it", number)]
    with path.open("rb") as file:
        checks = (
            _check_record(file.fileno(), index, int(row), place, config)
            for row, place in zip(rows, places, strict=True)
        )
        return [
            Damage(path, f"record {position}: {what}", number)
            for position, what in enumerate(checks)
            if what is not None
        ]


def _check_record(fd: int, index: Index, row: int, place: tuple[int, int], config: VerifyConfig) -> str | None:
    """What is wrong with a record; None where nothing is."""
    try:
        header = read_header_at(fd, *place)
    except RecordFormatError as error:
        return str(error)
    if header.id != index.ids[row]:
        return f"it is {header.id!r}, the index says {index.ids[row]!r}"
    facts = index.rows[row]
    if index_row(int(facts["shard"]), int(facts["position"]), place, header) != facts.item():
        return f"{header.id}: the index says otherwise about its label, size or frames"
    if config.level == 2:
        return None
    units = _read_units(fd, place, header)
    bad = [
        str(number)
        for number, (unit, crc) in enumerate(zip(units, header.unit_crcs.tolist(), strict=True))
        if zlib.crc32(unit) != crc
    ]
    if bad:
        return f"{header.id}: the checksums of {len(bad)} of {len(units)} units do not match: {first_ten(bad)}"
    if config.level == 3:
        return None
    numbers = tuple(range(0, header.num_frames, config.every))
    chosen = units if header.codec in STREAMS else [units[number] for number in numbers]
    try:
        decode(EncodedFrames(header.codec, numbers, tuple(chosen)), header.as_video_record())
    except RunError as error:
        return str(error)
    return None


def _read_units(fd: int, place: tuple[int, int], header: RecordHeader) -> list[bytes]:
    ends = header.unit_offsets().tolist()
    payload = os.pread(fd, ends[-1], place[0] + place[1] - ends[-1])
    return [payload[start:end] for start, end in itertools.pairwise(ends)]
