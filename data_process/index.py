"""The index of a folder of shards: one fixed-size row per stored video, written from the shards alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_process.durable import write_durably
from data_process.errors import InputError
from data_process.frames import CODECS
from data_process.id_table import IdTable
from data_process.lmdb_pages import PageFormatError, ShardLayout, read_layout
from data_process.records import PREFIX, RecordFormatError, RecordHeader, header_length, parse_header
from data_process.shard_writer import META_KEY, list_shards

INDEX_FORMAT = 1
SPLITS = ("train", "val", "test")
DEGRADED = 0x01
_CODEC_SHIFT = 1
_HEADER_PAGE = 4096
_READERS = 16

ROW = np.dtype(
    [
        ("offset", "<u8"),
        ("length", "<u8"),
        ("shard", "<u4"),
        ("frames", "<u4"),
        ("label", "<i4"),
        ("fps_x100", "<u2"),
        ("width", "<u2"),
        ("height", "<u2"),
        ("split", "u1"),
        ("flags", "u1"),
        ("position", "<u4"),
    ]
)
"""40 bytes: where a video lies (`position` is its number in the shard, the LMDB key) and what a planner needs."""


@dataclass(frozen=True)
class Index:
    """An opened index; arrays are memory-mapped and shared by all processes of a machine.

    Attributes:
        rows: (n,) of `ROW`, ordered by split, shard, position.
        classes: class names, in the order of the labels.
        splits: split name to (first, end) rows.
        shards: shard number to its facts (``name``, ``size``, ``transaction``, ``records``).
        ids: the ids of all rows.
    """

    rows: np.ndarray
    classes: tuple[str, ...]
    splits: dict[str, tuple[int, int]]
    shards: dict[int, dict[str, Any]]
    ids: IdTable


def read_header_at(fd: int, offset: int, length: int) -> RecordHeader:
    """Header of the record at a file offset: one page, and a second read for long videos.

    Raises:
        RecordFormatError: where no intact header stands there.
    """
    page = os.pread(fd, min(_HEADER_PAGE, length), offset)
    size = PREFIX.size + header_length(page)
    if size > length:
        raise RecordFormatError(f"the header claims {size} bytes, the record has {length}")
    if size > len(page):
        page += os.pread(fd, size - len(page), offset + len(page))
    return parse_header(page)


def record_positions(layout: ShardLayout) -> list[tuple[int, int]]:
    """(offset, length) of the records of a shard, by position.

    Raises:
        PageFormatError: where keys are not 0, 1, 2, ... and `~meta`.
    """
    places = [place for key, place in layout.values.items() if key != META_KEY]
    expected = [f"{number:012d}".encode() for number in range(len(places))]
    if [key for key in layout.values if key != META_KEY] != expected or META_KEY not in layout.values:
        raise PageFormatError("it is an LMDB file, but not a shard of this format (keys or ~meta are missing)")
    return places


def write_index(root: Path, *, classes: Sequence[str] | None = None) -> Index:
    """Write `index.npy`, `index.json` and `ids.bin` for the shards of a folder.

    Args:
        root: folder of shards.
        classes: class names in the order of the labels; None takes those of `plan.json`.

    Raises:
        InputError: for a folder without shards or a shard that is damaged or foreign.
    """
    shards = list_shards(root) if root.is_dir() else {}
    if not shards:
        raise InputError(f"{root} holds no shards (shard-000000.lmdb, ...); `intravid build SOURCE {root}` makes them")
    if classes is None:
        classes = _planned_classes(root)
    with ThreadPoolExecutor(_READERS) as pool:
        # Most of the time is spent waiting for the first page of each record.
        parts = list(pool.map(lambda item: _index_shard(*item), shards.items()))
    table = np.concatenate([rows for rows, _, _ in parts])
    ids = [one for _, part, _ in parts for one in part]
    facts = {number: described for number, (_, _, described) in zip(shards, parts, strict=True)}
    order = np.lexsort((table["position"], table["shard"], table["split"]))
    table, ids = table[order], [ids[row] for row in order]
    twice = sorted(one for one, times in Counter(ids).items() if times > 1)
    if twice:
        raise InputError(
            f"{root}: {len(twice)} ids stand in more than one record ({', '.join(twice[:10])}); the shards come from "
            "different builds: remove those that do not belong here"
        )
    if len(table) and int(table["label"].max()) >= len(classes):
        raise InputError(f"{root}: label {int(table['label'].max())} is stored, but only {len(classes)} class names")
    _write_files(root, table, ids, classes, facts)
    return read_index(root)


def _planned_classes(root: Path) -> list[str]:
    plan = root / "plan.json"
    return json.loads(plan.read_text())["classes"] if plan.exists() else []


def _index_shard(number: int, path: Path) -> tuple[np.ndarray, list[str], dict[str, Any]]:
    """Rows, ids and facts of one shard."""
    rows: list[tuple[Any, ...]] = []
    ids: list[str] = []
    try:
        layout = read_layout(path)
        places = record_positions(layout)
        with path.open("rb") as file:
            for position, place in enumerate(places):
                header = read_header_at(file.fileno(), *place)
                rows.append(index_row(number, position, place, header))
                ids.append(header.id)
    except (PageFormatError, RecordFormatError) as error:
        raise InputError(
            f"{path}: {error}. Move the file away and run `intravid build` again: it rebuilds only this shard."
        ) from error
    offsets = np.array([offset for offset, _ in places], dtype="<u8").tobytes()
    described = {
        "name": path.name,
        "size": path.stat().st_size,
        "transaction": layout.transaction,
        "records": len(places),
        "offsets_sha256": hashlib.sha256(offsets).hexdigest(),
    }
    return np.array(rows, dtype=ROW), ids, described


def index_row(shard: int, position: int, place: tuple[int, int], header: RecordHeader) -> tuple[Any, ...]:
    """Values of one `ROW`, for the record at (offset, length) of a shard."""
    flags = CODECS.index(header.codec) << _CODEC_SHIFT | (DEGRADED if header.state == "degraded" else 0)
    fps = min(65535, round(100 * header.fps[0] / header.fps[1]))
    split = SPLITS.index(header.split)
    return (
        *place, shard, header.num_frames, header.label, fps,
        header.width, header.height, split, flags, position,
    )  # fmt: skip


def _write_files(
    root: Path, table: np.ndarray, ids: list[str], classes: Sequence[str], facts: dict[int, dict[str, Any]]
) -> None:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, table)
    splits = {}
    for code, name in enumerate(SPLITS):
        first, end = np.searchsorted(table["split"], [code, code + 1])
        if end > first:
            splits[name] = [int(first), int(end)]
    described = {
        "format": INDEX_FORMAT,
        "videos": len(table),
        "frames": int(table["frames"].sum()),
        "classes": list(classes),
        "splits": splits,
        "shards": {str(number): one for number, one in facts.items()},
    }
    write_durably(root / "ids.bin", IdTable.pack(ids))
    write_durably(root / "index.npy", buffer.getvalue())
    write_durably(root / "index.json", json.dumps(described, indent=1).encode())


def read_index(root: Path) -> Index:
    """Open the index of a folder of shards.

    Raises:
        InputError: for a missing folder, a missing or unreadable index.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; `intravid build SOURCE {root}` makes a dataset there")
    path = root / "index.json"
    if not path.exists():
        found = "shards but no index" if list_shards(root) else "no shards"
        mend = f"`intravid index {root}` writes one" if list_shards(root) else f"`intravid build SOURCE {root}`"
        raise InputError(f"{root} holds {found} (index.json is missing); {mend}")
    try:
        described = json.loads(path.read_text())
        rows = np.load(root / "index.npy", mmap_mode="r" if described["videos"] else None)
        ids = IdTable(np.memmap(root / "ids.bin", dtype=np.uint8, mode="r"))
    except (OSError, ValueError, LookupError) as error:
        raise InputError(
            f"{root}: the index cannot be read ({error}); `intravid index {root}` writes it anew"
        ) from None
    if (
        described.get("format") != INDEX_FORMAT
        or rows.dtype != ROW
        or not len(rows) == len(ids) == described.get("videos")
    ):
        raise InputError(
            f"{root}: the index is of another format or incomplete; `intravid index {root}` writes it anew"
        )
    return Index(
        rows=rows,
        classes=tuple(described["classes"]),
        splits={name: (first, end) for name, (first, end) in described["splits"].items()},
        shards={int(number): facts for number, facts in described["shards"].items()},
        ids=ids,
    )
