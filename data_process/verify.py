"""Checking a dataset of shards, from names and sizes (level 0) to every frame's checksum (level 3)."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_process.build_plan import read_plan
from data_process.errors import InputError
from data_process.index import Index, index_row, read_header_at, read_index, record_positions
from data_process.lmdb_pages import PageFormatError, read_layout
from data_process.progress import show_progress
from data_process.quarantine import read_json_lines, read_report
from data_process.records import RecordFormatError
from data_process.shard_writer import list_shards
from data_process.source import first_ten

LEVELS = {
    0: "names and sizes",
    1: "page structure, record counts, shards against index, videos against the manifest",
    2: "every record's header against the index",
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
    if level > 0:
        found += _check_manifest(root, index)
    with show_progress(f"verify, level {level}", len(index.shards), unit="shards") as progress:
        for number in index.shards:
            try:
                found += _check_shard(root, index, number, level)
            except OSError as error:
                found.append(Damage(root / index.shards[number]["name"], f"cannot be read ({error})"))
            progress.advance(damaged=len(found))
    return found


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
    stored = {index.ids[row] for row in range(len(index.ids))}
    reported = {row["id"] for number in index.shards for row in read_report(root, number) if not row["stored"]}
    for what, ids in (
        ("are neither stored nor in a report", planned - stored - reported),
        ("are stored, but not in the manifest", stored - planned),
    ):
        if ids:
            yield Damage(path, f"{len(ids)} videos {what}: {first_ten(sorted(ids))}")


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
        own = np.flatnonzero(index.rows["shard"] == number)
        rows = own[np.argsort(index.rows["position"][own])]
        if len(rows) != len(places):
            return [Damage(path, f"holds {len(places)} records, the index has {len(rows)} rows of it")]
        checks = (
            _check_record(file.fileno(), path, index, int(row), place, level)
            for row, place in zip(rows, places, strict=True)
        )
        return [damage for damage in checks if damage is not None]


def _check_record(fd: int, path: Path, index: Index, row: int, place: tuple[int, int], level: int) -> Damage | None:
    position = int(index.rows["position"][row])
    try:
        header = read_header_at(fd, *place)
    except RecordFormatError as error:
        return Damage(path, f"record {position}: {error}")
    if header.id != index.ids[row]:
        return Damage(path, f"record {position} is {header.id!r}, the index says {index.ids[row]!r}")
    if index_row(int(index.rows["shard"][row]), position, place, header) != index.rows[row].item():
        return Damage(
            path, f"record {position} ({header.id}): the index says otherwise about its label, size or frames"
        )
    if level == 2:
        return None
    ends = header.unit_offsets()
    payload = os.pread(fd, int(ends[-1]), place[0] + place[1] - int(ends[-1]))
    bad = [
        frame
        for frame in range(header.num_frames)
        if zlib.crc32(payload[ends[frame] : ends[frame + 1]]) != int(header.unit_crcs[frame])
    ]
    if bad:
        frames = first_ten([str(frame) for frame in bad])
        return Damage(
            path, f"record {position} ({header.id}): the checksums of {len(bad)} frames do not match: {frames}"
        )
    return None
