"""Checking a dataset of shards, from names and sizes (level 0) to every frame's checksum (level 3)."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_process.errors import InputError
from data_process.index import Index, read_header_at, read_index, record_positions
from data_process.lmdb_pages import PageFormatError, read_layout
from data_process.progress import show_progress
from data_process.records import RecordFormatError
from data_process.shard_writer import list_shards

LEVELS = {
    0: "names and sizes",
    1: "page structure, record counts, index against shards",
    2: "every record's header",
    3: "every frame's checksum",
}


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    Attributes:
        path: the file.
        what: what was found and what was expected.
    """

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def verify(root: Path, *, level: int = 2) -> list[Damage]:
    """All damage that a level finds; each level includes those below.

    Raises:
        InputError: for an unknown level, or a folder that holds no indexed dataset.
    """
    if level not in LEVELS:
        raise InputError(f"--level {level}: levels are 0 to {max(LEVELS)}")
    index = read_index(root)
    found = list(_check_names(root, index))
    with show_progress(f"verify, level {level}", len(index.shards), unit="shards") as progress:
        for number in index.shards:
            found += _check_shard(root, index, number, level)
            progress.advance(damaged=len(found))
    return found


def _check_names(root: Path, index: Index) -> Iterator[Damage]:
    present = list_shards(root)
    for number, path in present.items():
        if number not in index.shards:
            yield Damage(path, f"is not in the index; `intravid index {root}` adds it")
    plan = root / "plan.json"
    if plan.exists():
        planned = json.loads(plan.read_text())["shards"]
        missing = sorted(set(range(planned)) - set(present) - set(index.shards))
        if missing:
            yield Damage(plan, f"{len(missing)} of {planned} planned shards are not there, the first is {missing[0]}")
    for path in sorted(root.glob("*.tmp.*")):
        yield Damage(path, "is left over from a build that was killed; the next build removes it")


def _check_shard(root: Path, index: Index, number: int, level: int) -> list[Damage]:
    facts = index.shards[number]
    path = root / facts["name"]
    if not path.exists():
        return [Damage(path, "is in the index but missing")]
    size = path.stat().st_size
    if size != facts["size"]:
        return [Damage(path, f"has {size} bytes, the index says {facts['size']}")]
    if level == 0:
        return []
    try:
        layout = read_layout(path)
        places = record_positions(layout)
    except PageFormatError as error:
        return [Damage(path, str(error))]
    offsets = np.array([offset for offset, _ in places], dtype="<u8").tobytes()
    if len(places) != facts["records"] or hashlib.sha256(offsets).hexdigest() != facts["offsets_sha256"]:
        return [Damage(path, f"its records lie elsewhere than indexed; `intravid index {root}` writes a new index")]
    if level == 1:
        return []
    with path.open("rb") as file:
        rows = {int(row["position"]): place for place, row in enumerate(index.rows) if row["shard"] == number}
        checks = (
            _check_record(file.fileno(), path, index, rows, position, place, level)
            for position, place in enumerate(places)
        )
        return [damage for damage in checks if damage is not None]


def _check_record(
    fd: int, path: Path, index: Index, rows: dict[int, int], position: int, place: tuple[int, int], level: int
) -> Damage | None:
    offset, length = place
    try:
        header = read_header_at(fd, offset, length)
    except RecordFormatError as error:
        return Damage(path, f"record {position}: {error}")
    listed = index.ids[rows[position]] if position in rows else None
    if header.id != listed:
        return Damage(path, f"record {position} is {header.id!r}, the index says {listed!r}")
    if level == 2:
        return None
    ends = header.unit_offsets()
    payload = os.pread(fd, int(ends[-1]), offset + length - int(ends[-1]))
    bad = [
        frame
        for frame in range(header.num_frames)
        if zlib.crc32(payload[ends[frame] : ends[frame + 1]]) != int(header.unit_crcs[frame])
    ]
    if bad:
        return Damage(path, f"record {position} ({header.id}): checksums of frames {bad[:10]} do not match")
    return None
