"""All ids of a dataset in one memory-mapped file: id of a row, and row of an id by binary search."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence

import numpy as np

_MAGIC = b"IVID"
_PREFIX = struct.Struct("<4sQ")
_CHUNK = 1 << 14


class IdTable:
    """Ids by row, and rows by id.

    Args:
        data: (bytes,) uint8, the contents of ``ids.bin``: magic, number of ids, their first bytes and end (u64), rows
            in the order of the ids (u32), the ids in UTF-8 back to back in row order.

    Raises:
        ValueError: for other contents.
    """

    def __init__(self, data: np.ndarray) -> None:
        magic, count = _PREFIX.unpack(data[: _PREFIX.size].tobytes().ljust(_PREFIX.size, b"\0"))
        ends = np.cumsum([_PREFIX.size, 8 * (count + 1), 4 * count])
        if magic != _MAGIC or len(data) < ends[2]:
            raise ValueError("ids.bin is not a complete table of ids")
        self._offsets = data[ends[0] : ends[1]].view("<u8")
        self._order = data[ends[1] : ends[2]].view("<u4")
        self._blob = data[ends[2] :]

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, row: int) -> str:
        return self._blob[int(self._offsets[row]) : int(self._offsets[row + 1])].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return self.between(0, len(self))

    def between(self, first: int, end: int) -> Iterator[str]:
        """The ids of rows first..end-1; far cheaper than to ask for each."""
        for start in range(first, end, _CHUNK):
            stop = min(end, start + _CHUNK)
            blob = self.blob(start, stop)
            offsets = (self._offsets[start : stop + 1] - self._offsets[start]).tolist()
            for begin, after in itertools.pairwise(offsets):
                yield blob[begin:after].decode()

    def blob(self, first: int, end: int) -> bytes:
        """The ids of rows first..end-1 in UTF-8, back to back."""
        return self._blob[int(self._offsets[first]) : int(self._offsets[end])].tobytes()

    def find(self, video_id: str) -> int:
        """Row of an id; -1 if there is none."""
        wanted = video_id.encode()
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self[int(self._order[middle])].encode() < wanted:
                low = middle + 1
            else:
                high = middle
        if low < len(self) and self[int(self._order[low])] == video_id:
            return int(self._order[low])
        return -1

    @staticmethod
    def pack(ids: Sequence[str]) -> bytes:
        """The bytes of the file for ids in row order."""
        encoded = [video_id.encode() for video_id in ids]
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in encoded])]).astype("<u8")
        order = np.array(sorted(range(len(encoded)), key=encoded.__getitem__), dtype="<u4")
        prefix = _PREFIX.pack(_MAGIC, len(encoded))
        return b"".join((prefix, offsets.tobytes(), order.tobytes(), *encoded))
