"""Reading a dataset of shards: sample index to record, and (index, frame numbers) to encoded frames."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_process.errors import InputError, RunError
from data_process.index import CODECS, DEGRADED, SPLITS, read_header_at, read_index, record_positions
from data_process.lmdb_pages import PageFormatError, read_layout, read_transaction
from data_process.records import PREFIX, RecordFormatError, RecordHeader, VideoRecord, header_length, parse_header

_HEADERS_KEPT = 256


@dataclass(frozen=True)
class DataConfig:
    """Which videos are read, and how.

    Attributes:
        root: folder of shards, as `intravid build` makes it.
        split: train, val, test, or all.
        reader: pread (only the wanted bytes), or lmdb (whole values through LMDB, for comparison).
        check_crc: compare the checksum of every frame that is read.
    """

    root: str = ""
    split: str = "train"
    reader: Literal["pread", "lmdb"] = "pread"
    check_crc: bool = True

    def open(self, split: str | None = None) -> ShardSet:
        """The shards of this configuration, of its own split or another.

        Raises:
            InputError: where no root is given, or it holds no such split.
        """
        if not self.root:
            raise InputError("data.root is not set; give the folder of shards, for instance --data.root shards/")
        chosen = split or self.split
        return ShardSet(
            self.root, split=None if chosen == "all" else chosen, reader=self.reader, check_crc=self.check_crc
        )


class ShardSet:
    """Stored videos of one folder, addressed by sample index; shards never change once published.

    Holds paths and a memory-mapped index only; files are opened when first read, per process, so that instances may
    be forked and pickled and used from many threads. A clip costs one read for the header page and one per run of
    neighbouring frames.

    Args:
        root: folder of shards with an index.
        split: train, val or test; None for all.
        reader: ``pread``, or ``lmdb`` as the reference path.
        check_crc: verify every frame read.
        max_gap: bytes of unwanted frames that are read along rather than skipped by a second read.
        max_open: files kept open.

    Raises:
        InputError: for a folder without shards or index, or an empty or unknown split.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str | None = None,
        reader: Literal["pread", "lmdb"] = "pread",
        check_crc: bool = True,
        max_gap: int = 65536,
        max_open: int = 128,
    ) -> None:
        self.root = Path(root)
        self.split, self.reader, self.check_crc = split, reader, check_crc
        self._max_gap, self._max_open = max_gap, max_open
        self._index = read_index(self.root)
        self._first, end = self._range(split)
        self._rows = self._index.rows[self._first : end]
        self._reset()

    def _range(self, split: str | None) -> tuple[int, int]:
        if split is None:
            return 0, len(self._index.rows)
        if split not in SPLITS or split not in self._index.splits:
            there = ", ".join(self._index.splits) or "none"
            raise InputError(f"{self.root} holds no split {split!r}; its splits are: {there}")
        return self._index.splits[split]

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._files: OrderedDict[int, _ShardFile] = OrderedDict()
        self._headers: OrderedDict[int, RecordHeader] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.root), self.split, self.reader, self.check_crc, self._max_gap, self._max_open)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> VideoRecord:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        row = self._rows[index]
        return VideoRecord(
            id=self._index.ids[self._first + index],
            label=int(row["label"]),
            split=SPLITS[row["split"]],
            codec=CODECS[int(row["flags"]) >> 1],
            num_frames=int(row["frames"]),
            fps=float(row["fps_x100"]) / 100.0,
            height=int(row["height"]),
            width=int(row["width"]),
        )

    def __iter__(self) -> Iterator[VideoRecord]:
        return (self[index] for index in range(len(self)))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self._index.classes

    @cached_property
    def labels(self) -> np.ndarray:
        """Class index of each sample, (N,) int64; -1 where unlabelled."""
        return self._rows["label"].astype(np.int64)

    @cached_property
    def num_frames(self) -> np.ndarray:
        """Frames of each sample, (N,) int64."""
        return self._rows["frames"].astype(np.int64)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what decides the samples' order and plans: ids, labels, sizes and frame counts, in order."""
        state = hashlib.sha256(self._index.ids.blob(self._first, self._first + len(self)))
        for column in ("label", "frames", "fps_x100", "width", "height", "split"):
            state.update(np.ascontiguousarray(self._rows[column]).tobytes())
        return state.hexdigest()

    def index_of(self, video_id: str) -> int:
        """Sample index of an id.

        Raises:
            KeyError: where no video of this split has it.
        """
        row = self._index.ids.find(video_id) - self._first
        if not 0 <= row < len(self):
            raise KeyError(f"{video_id!r} is not in {self.root} ({self.split or 'all splits'})")
        return row

    def is_degraded(self, index: int) -> bool:
        """Whether the decoder complained about the source of this video when it was built."""
        return bool(int(self._rows[index]["flags"]) & DEGRADED)

    def header(self, index: int) -> RecordHeader:
        """The whole stored header of a video.

        Raises:
            RunError: where it is damaged.
        """
        row, file = self._rows[index], self._open(int(self._rows[index]["shard"]))
        with self._lock:
            if index in self._headers:
                self._headers.move_to_end(index)
                return self._headers[index]
        try:
            header = file.header(int(row["position"]), int(row["offset"]), int(row["length"]))
        except RecordFormatError as error:
            raise self._damaged(index, str(error)) from error
        if header.id != self._index.ids[self._first + index]:
            raise InputError(
                f"{self.root}: the index lists {self._index.ids[self._first + index]!r} where {file.path.name} holds "
                f"{header.id!r}; the shards were replaced: `intravid index {self.root}` writes a new index"
            )
        with self._lock:
            self._headers[index] = header
            while len(self._headers) > _HEADERS_KEPT:
                self._headers.popitem(last=False)
        return header

    def read_frames(self, index: int, frames: Sequence[int]) -> list[bytes]:
        """Encoded frames of a video in the order asked; a frame may be asked for more than once.

        Raises:
            RunError: for a frame that is cut short or whose checksum differs, naming shard, video and frame.
            IndexError: for a frame number that the video does not have.
        """
        header = self.header(index)
        if frames and not 0 <= min(frames) <= max(frames) < header.num_frames:
            raise IndexError(f"{header.id}: frames {min(frames)}..{max(frames)} of {header.num_frames}")
        row, offsets = self._rows[index], header.unit_offsets()
        file = self._open(int(row["shard"]))
        base = int(row["length"]) - int(offsets[-1])
        wanted = sorted(set(frames))
        units: dict[int, bytes] = {}
        for first, last in _runs(wanted, offsets, self._max_gap):
            start, end = int(offsets[first]), int(offsets[last + 1])
            data = file.read(int(row["position"]), int(row["offset"]), base + start, end - start)
            for frame in wanted[_at(wanted, first) : _at(wanted, last) + 1]:
                unit = data[int(offsets[frame]) - start : int(offsets[frame + 1]) - start]
                if len(unit) != int(header.unit_sizes[frame]):
                    raise self._damaged(index, f"frame {frame} is cut short")
                if self.check_crc and zlib.crc32(unit) != int(header.unit_crcs[frame]):
                    raise self._damaged(index, f"the checksum of frame {frame} does not match")
                units[frame] = unit
        return [units[frame] for frame in frames]

    def _damaged(self, index: int, what: str) -> RunError:
        row = self._rows[index]
        name = self._index.shards[int(row["shard"])]["name"]
        return RunError(
            f"{self.root / name}, record {int(row['position'])} ({self._index.ids[self._first + index]}): {what}. "
            f"`intravid verify {self.root} --level 3` lists all damage; remove the shard and run `intravid build` "
            "again to rebuild only it."
        )

    def _open(self, shard: int) -> _ShardFile:
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            if shard in self._files:
                self._files.move_to_end(shard)
                return self._files[shard]
            file = self._files[shard] = _ShardFile(self.root, self._index.shards[shard], self.reader)
            while len(self._files) > self._max_open:
                self._files.popitem(last=False)
            return file

    def close(self) -> None:
        """Forget open files; they are opened again when read."""
        self._reset()


def _reopen(root: str, split: str | None, reader: Any, check_crc: bool, max_gap: int, max_open: int) -> ShardSet:
    return ShardSet(root, split=split, reader=reader, check_crc=check_crc, max_gap=max_gap, max_open=max_open)


def _runs(wanted: list[int], offsets: np.ndarray, max_gap: int) -> Iterator[tuple[int, int]]:
    """Neighbouring frames joined to (first, last) where the bytes between them are few."""
    if not wanted:
        return
    first = last = wanted[0]
    for frame in wanted[1:]:
        if offsets[frame] - offsets[last + 1] > max_gap:
            yield first, last
            first = frame
        last = frame
    yield first, last


def _at(wanted: list[int], frame: int) -> int:
    from bisect import bisect_left

    return bisect_left(wanted, frame)


class _ShardFile:
    """One open shard; closed by the garbage collector, so that a thread that still reads keeps it open."""

    def __init__(self, root: Path, facts: dict[str, Any], reader: str) -> None:
        self.path = root / facts["name"]
        self._fd = -1
        try:
            self._fd = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            raise InputError(
                f"{self.path} is listed in the index but missing; copy it back, or run `intravid build` to rebuild it"
            ) from None
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)
        self._moved = self._places_if_rewritten(facts)
        self._values = _LmdbValues(self.path) if reader == "lmdb" else None

    def _places_if_rewritten(self, facts: dict[str, Any]) -> list[tuple[int, int]] | None:
        """New positions where file size or transaction differ from the index; ids are compared on every read."""
        size = os.fstat(self._fd).st_size
        try:
            if size == facts["size"] and read_transaction(self._fd) == facts["transaction"]:
                return None
            places = record_positions(read_layout(self.path))
        except PageFormatError as error:
            raise InputError(
                f"{self.path}: {error}. Restore the file, or remove it and run `intravid build` to rebuild this shard."
            ) from None
        if len(places) != facts["records"]:
            raise InputError(
                f"{self.path} holds {len(places)} records, the index lists {facts['records']}; "
                f"`intravid index {self.path.parent}` writes a new index"
            )
        warnings.warn(f"{self.path} was rewritten since it was indexed; its positions were read anew", stacklevel=4)
        return places

    def header(self, position: int, offset: int, length: int) -> RecordHeader:
        if self._values is not None:
            value = self._values.get(position)
            return parse_header(value[: PREFIX.size + header_length(value)])
        if self._moved is not None:
            offset, length = self._moved[position]
        return read_header_at(self._fd, offset, length)

    def read(self, position: int, offset: int, start: int, length: int) -> bytes:
        """Bytes start..start+length of a record."""
        if self._values is not None:
            return self._values.get(position)[start : start + length]
        if self._moved is not None:
            offset = self._moved[position][0]
        return os.pread(self._fd, length, offset + start)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class _LmdbValues:
    """Whole values through LMDB itself: the reference that offsets are checked against."""

    def __init__(self, path: Path) -> None:
        import lmdb

        self._env = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=True, max_spare_txns=0)

    def get(self, position: int) -> bytes:
        with self._env.begin() as txn:
            value = txn.get(f"{position:012d}".encode())
        if value is None:
            raise RecordFormatError(f"record {position} is missing")
        return bytes(value)

    def __del__(self) -> None:
        if hasattr(self, "_env"):
            self._env.close()
