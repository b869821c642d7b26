"""One stored video: what is known about it, and how record and frames become bytes (format `IVR1`) and back."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_process.frames import STREAMS

MAGIC = b"IVR1"
PREFIX = struct.Struct("<4sIII")
"""Magic, header length, CRC-32 of the header, flags (0)."""


_KEYS = frozenset({"id", "label", "split", "codec", "w", "h", "fps", "n", "units", "crc", "src", "st"})


class RecordFormatError(ValueError):
    """Bytes that are not an intact `IVR1` record."""


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One stored video.

    Attributes:
        id: stable id, unique in the dataset (``class/name`` for folders).
        label: class index, -1 where unlabelled.
        split: ``train``, ``val`` or ``test``.
        codec: how the frames are stored: ``jpeg``, ``mp4`` or ``flow-jpeg``.
        num_frames: number of stored frames.
        fps: frames per second of the stored frames.
        height: pixels, after rotation and pixel-aspect correction.
        width: pixels, likewise.
    """

    id: str
    label: int
    split: str
    codec: str
    num_frames: int
    fps: float
    height: int
    width: int


@dataclass(frozen=True)
class RecordHeader:
    """The msgpack header of a record.

    Attributes:
        id: stable id of the video.
        label: class index, -1 where unlabelled.
        split: ``train``, ``val`` or ``test``.
        codec: ``jpeg`` and ``flow-jpeg``: one unit a frame; ``mp4``: one unit, a whole file of H.264.
        width: pixels of the stored frames.
        height: pixels, likewise.
        fps: rate of the stored frames as (numerator, denominator).
        num_frames: stored frames.
        unit_sizes: (units,) uint32, bytes of each unit; their running sum gives the offsets in the payload.
        unit_crcs: (units,) uint32, CRC-32 of each unit.
        source: facts about the source file (size, rate, codec, rotation, variable rate).
        state: ``ok`` or ``degraded`` (the decoder complained, but enough frames survived).
        extra: further keys that a codec needs: ``bound`` (pixels) and ``alg`` of flow.
    """

    id: str
    label: int
    split: str
    codec: str
    width: int
    height: int
    fps: tuple[int, int]
    num_frames: int
    unit_sizes: np.ndarray
    unit_crcs: np.ndarray
    source: Mapping[str, Any] = field(default_factory=dict)
    state: str = "ok"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        units = 1 if self.codec in STREAMS else self.num_frames
        if not len(self.unit_sizes) == len(self.unit_crcs) == units:
            raise RecordFormatError(
                f"{self.id}: {self.num_frames} frames of {self.codec} are {units} units, "
                f"{len(self.unit_sizes)} sizes and {len(self.unit_crcs)} checksums are listed"
            )
        if taken := _KEYS & set(self.extra):
            raise ValueError(f"{self.id}: {sorted(taken)} are keys of every header, not of a codec")

    def unit_offsets(self) -> np.ndarray:
        """(units + 1,) int64, first byte of each unit in the payload, and its end."""
        return np.concatenate([[0], np.cumsum(self.unit_sizes, dtype=np.int64)])

    def as_video_record(self) -> VideoRecord:
        """The part that training needs."""
        rate = self.fps[0] / self.fps[1]
        return VideoRecord(
            self.id, self.label, self.split, self.codec, self.num_frames, rate, self.height, self.width
        )  # fmt: skip


def describe_units(units: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and CRC-32 of encoded frames, each (n,) little-endian uint32."""
    sizes = np.array([len(unit) for unit in units], dtype="<u4")
    return sizes, np.array([zlib.crc32(unit) for unit in units], dtype="<u4")


def pack_record(header: RecordHeader, units: Sequence[bytes]) -> bytes:
    """The value that a shard stores: prefix, header, units back to back.

    Raises:
        ValueError: if the units are not those that the header describes.
    """
    import msgpack

    if [len(unit) for unit in units] != header.unit_sizes.tolist():
        raise ValueError(f"{header.id}: the header describes {len(header.unit_sizes)} units, other sizes were given")
    packed = msgpack.Packer().pack(
        {
            "id": header.id,
            "label": int(header.label),
            "split": header.split,
            "codec": header.codec,
            "w": int(header.width),
            "h": int(header.height),
            "fps": [int(part) for part in header.fps],
            "n": header.num_frames,
            "units": header.unit_sizes.astype("<u4").tobytes(),
            "crc": header.unit_crcs.astype("<u4").tobytes(),
            "src": dict(header.source),
            "st": header.state,
            **header.extra,
        }
    )
    return b"".join((PREFIX.pack(MAGIC, len(packed), zlib.crc32(packed), 0), packed, *units))


def header_length(prefix: bytes) -> int:
    """Length of the msgpack header, from the first 16 bytes of a record.

    Raises:
        RecordFormatError: where they are too few, or the magic is missing.
    """
    if len(prefix) < PREFIX.size:
        raise RecordFormatError("the file is cut short where a record should begin")
    if prefix[:4] != MAGIC:
        raise RecordFormatError(f"expected a record that begins with {MAGIC!r}, found {bytes(prefix[:4])!r}")
    return PREFIX.unpack_from(prefix)[1]


def parse_header(data: bytes | memoryview) -> RecordHeader:
    """The header of a record whose first bytes are given.

    Raises:
        RecordFormatError: where magic, length or checksum are wrong.
    """
    import msgpack

    data = memoryview(data)
    length = header_length(bytes(data[: PREFIX.size]))
    _, _, crc, flags = PREFIX.unpack_from(data)
    packed = data[PREFIX.size : PREFIX.size + length]
    if len(packed) != length or zlib.crc32(packed) != crc:
        raise RecordFormatError("the checksum of the record's header does not match")
    if flags:
        raise RecordFormatError(f"the record has flags {flags:#x}, which a newer version of intravid wrote")
    fields = msgpack.unpackb(packed)
    return RecordHeader(
        id=fields["id"],
        label=fields["label"],
        split=fields["split"],
        codec=fields["codec"],
        width=fields["w"],
        height=fields["h"],
        fps=(fields["fps"][0], fields["fps"][1]),
        num_frames=fields["n"],
        unit_sizes=np.frombuffer(fields["units"], dtype="<u4"),
        unit_crcs=np.frombuffer(fields["crc"], dtype="<u4"),
        source=fields["src"],
        state=fields["st"],
        extra={name: value for name, value in fields.items() if name not in _KEYS},
    )
