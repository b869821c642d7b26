"""What one process has open of a dataset, and which reads a clip needs."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from data_process.records import RecordHeader
from data_process.shard_file import ShardFile

_HEADERS_KEPT = 256


class OpenShards:
    """Open files and headers of one process; replaced as a whole, so that threads never see half of a change."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.files: OrderedDict[int, ShardFile] = OrderedDict()
        self._headers: OrderedDict[int, RecordHeader] = OrderedDict()

    def file(self, shard: int, open_file: Callable[[], ShardFile], most: int) -> ShardFile:
        """The file of a shard; of `most` open ones the one that was not used for longest is left."""
        with self.lock:
            if shard in self.files:
                self.files.move_to_end(shard)
                return self.files[shard]
            file = self.files[shard] = open_file()
            while len(self.files) > most:
                self.files.popitem(last=False)
            return file

    def header(self, index: int) -> RecordHeader | None:
        """Header of a video that was read lately."""
        with self.lock:
            if index in self._headers:
                self._headers.move_to_end(index)
            return self._headers.get(index)

    def keep_header(self, index: int, header: RecordHeader) -> None:
        """Remember a header."""
        with self.lock:
            self._headers[index] = header
            while len(self._headers) > _HEADERS_KEPT:
                self._headers.popitem(last=False)


def neighbours(begins: Sequence[int], ends: Sequence[int], max_gap: int) -> Iterator[tuple[int, int]]:
    """Units joined to (first, last) places where the bytes between them are few.

    Args:
        begins: first byte of each unit, growing.
        ends: the byte behind each.
        max_gap: bytes that are read along rather than skipped by a second read.
    """
    first = 0
    for place in range(1, len(begins)):
        if begins[place] - ends[place - 1] > max_gap:
            yield first, place - 1
            first = place
    if begins:
        yield first, len(begins) - 1
