"""Reading a dataset of shards: sample index to record, and (index, frame numbers) to encoded frames."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_process.errors import InputError, RunError
from data_process.frames import CODECS, STREAMS, EncodedFrames
from data_process.index import DEGRADED, SPLITS, read_index
from data_process.open_shards import OpenShards, neighbours
from data_process.records import RecordFormatError, RecordHeader, VideoRecord
from data_process.shard_file import Place, Reader, ShardFile


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
        reader: Reader = "pread",
        check_crc: bool = True,
        max_gap: int = 65536,
        max_open: int = 128,
    ) -> None:
        self.root = Path(root)
        self.split, self.check_crc = split, check_crc
        self.reader: Reader = reader
        self._max_gap, self._max_open = max_gap, max_open
        self._index = read_index(self.root)
        self._first, end = self._range(split)
        # A plain array over the same mapping: numpy's memmap class takes microseconds for every row.
        self._rows = np.asarray(self._index.rows[self._first : end])
        self._opened = OpenShards()

    def _range(self, split: str | None) -> tuple[int, int]:
        if split is None:
            return 0, len(self._index.rows)
        if split not in SPLITS or split not in self._index.splits:
            there = ", ".join(self._index.splits) or "none"
            raise InputError(f"{self.root} holds no split {split!r}; its splits are: {there}")
        return self._index.splits[split]

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
    def name(self) -> str:
        """The folder, for people."""
        return str(self.root)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self._index.classes

    @property
    def labels(self) -> np.ndarray:
        """Class index of each sample, (N,) int64; -1 where unlabelled."""
        return self._rows["label"].astype(np.int64)

    @property
    def num_frames(self) -> np.ndarray:
        """Frames of each sample, (N,) int64."""
        return self._rows["frames"].astype(np.int64)

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the samples' order and plans: ids, labels, sizes and frame counts, in order."""
        state = hashlib.sha256(self._index.ids.blob(self._first, self._first + len(self)))
        for column in ("label", "frames", "fps_x100", "width", "height", "split"):
            state.update(np.ascontiguousarray(self._rows[column]).tobytes())
        return state.hexdigest()

    def ids(self) -> Iterator[str]:
        """Ids of all samples, in their order, without making a record of each."""
        return self._index.ids.between(self._first, self._first + len(self))

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
            InputError: where its shard is missing, or another one than was indexed.
        """
        opened = self._opened_here()
        if (kept := opened.header(index)) is not None:
            return kept
        position, place, file = self._find(opened, index)
        try:
            header = file.header(position, place)
        except (RecordFormatError, OSError) as error:
            raise self._damaged(index, str(error)) from error
        self._check_is_indexed(index, header, file)
        opened.keep_header(index, header)
        return header

    def read_frames(self, index: int, frames: Sequence[int]) -> EncodedFrames:
        """Some frames of a video, as they are stored; a frame may be asked for more than once.

        Raises:
            RunError: for a frame that is cut short or whose checksum differs, naming shard, video and frame.
            IndexError: for a frame number that the video does not have.
        """
        header = self.header(index)
        if frames and not 0 <= min(frames) <= max(frames) < header.num_frames:
            raise IndexError(f"{header.id}: frames {min(frames)}..{max(frames)} of {header.num_frames}")
        numbers = tuple(sorted(set(frames)))
        units = self._read_units(index, header, [0] if header.codec in STREAMS else numbers)
        return EncodedFrames(header.codec, numbers, units)

    def _read_units(self, index: int, header: RecordHeader, wanted: Sequence[int]) -> tuple[bytes, ...]:
        """Units by growing number, neighbours in one read."""
        position, place, file = self._find(self._opened_here(), index)
        offsets = header.unit_offsets()
        base = place[1] - int(offsets[-1])
        # Lists, since to look at single elements of arrays takes longer than the read itself.
        numbers = np.asarray(wanted, dtype=np.intp)
        begins, ends = offsets[numbers].tolist(), offsets[numbers + 1].tolist()
        units: list[bytes] = []
        for first, last in neighbours(begins, ends, self._max_gap):
            start, end = begins[first], ends[last]
            try:
                data = file.read(position, place, base + start, end - start)
            except (RecordFormatError, OSError) as error:
                what = f"frames {wanted[first]}..{wanted[last]} cannot be read ({error})"
                raise self._damaged(index, what) from error
            units += [data[begins[one] - start : ends[one] - start] for one in range(first, last + 1)]
        self._check_units(index, header, numbers, units)
        return tuple(units)

    def _find(self, opened: OpenShards, index: int) -> tuple[int, Place, ShardFile]:
        """Position in the shard, place in the file, and the file, of a video."""
        row = self._rows[index]
        shard = int(row["shard"])
        file = opened.file(shard, lambda: ShardFile(self.root, self._index.shards[shard], self.reader), self._max_open)
        position = int(row["position"])
        return position, file.locate(position, (int(row["offset"]), int(row["length"]))), file

    def _check_is_indexed(self, index: int, header: RecordHeader, file: ShardFile) -> None:
        wanted = self._index.ids[self._first + index], int(self._rows[index]["frames"])
        if (header.id, header.num_frames) != wanted:
            raise InputError(
                f"{file.path} holds {header.id!r} ({header.num_frames} frames) where the index lists {wanted[0]!r} "
                f"({wanted[1]}); the shards were replaced: `intravid index {self.root}` writes a new index"
            )

    def _check_units(self, index: int, header: RecordHeader, numbers: np.ndarray, units: Sequence[bytes]) -> None:
        sizes, crcs = header.unit_sizes[numbers].tolist(), header.unit_crcs[numbers].tolist()
        for number, unit, size, crc in zip(numbers, units, sizes, crcs, strict=True):
            if len(unit) == size and not (self.check_crc and zlib.crc32(unit) != crc):
                continue
            name = "the video" if header.codec in STREAMS else f"frame {number}"
            what = f"the checksum of {name} does not match" if len(unit) == size else f"{name} is cut short"
            raise self._damaged(index, what)

    def _damaged(self, index: int, what: str) -> RunError:
        row = self._rows[index]
        name = self._index.shards[int(row["shard"])]["name"]
        return RunError(
            f"{self.root / name}, record {int(row['position'])} ({self._index.ids[self._first + index]}): {what}. "
            f"`intravid verify {self.root} --level 3` lists all damage; remove the shard and run `intravid build` "
            "again to rebuild only it."
        )

    def _opened_here(self) -> OpenShards:
        """Open files of this process; a forked child starts anew, whatever its parent's threads held."""
        opened = self._opened
        if opened.pid != os.getpid():
            opened = self._opened = OpenShards()
        return opened

    def close(self) -> None:
        """Forget open files; they are opened again when read."""
        self._opened = OpenShards()


def _reopen(root: str, split: str | None, reader: Reader, check_crc: bool, max_gap: int, max_open: int) -> ShardSet:
    return ShardSet(root, split=split, reader=reader, check_crc=check_crc, max_gap=max_gap, max_open=max_open)
