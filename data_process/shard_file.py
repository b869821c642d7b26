"""One open shard: where its records lie now, and their bytes through `pread` or through LMDB."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any, Literal

from data_process.errors import InputError
from data_process.index import read_header_at, record_positions
from data_process.lmdb_pages import PageFormatError, read_layout, read_transaction
from data_process.records import PREFIX, RecordFormatError, RecordHeader, header_length, parse_header

Reader = Literal["pread", "lmdb"]
Place = tuple[int, int]
"""Offset and length of a record in its file, bytes."""


class ShardFile:
    """One shard of an index; closed by the garbage collector, so that a thread that still reads keeps it open.

    Args:
        root: folder of the shards.
        facts: what the index says about the shard.
        reader: ``pread``, or ``lmdb`` as the reference path.

    Raises:
        InputError: for a file that is missing, damaged or another one than was indexed.
    """

    def __init__(self, root: Path, facts: dict[str, Any], reader: Reader) -> None:
        self.path = root / facts["name"]
        self._fd = -1
        try:
            self._fd = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            raise InputError(
                f"{self.path} is listed in the index but missing; copy it back, or run `intravid build` to rebuild it"
            ) from None
        except OSError as error:
            raise InputError(f"{self.path} cannot be opened ({error}); mend its permissions or `ulimit -n`") from None
        if hasattr(os, "posix_fadvise"):
            # Read-ahead of the kernel would fetch megabytes around every clip.
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)
        self._moved = self._places_if_rewritten(facts)
        self._values = _open_values(self.path) if reader == "lmdb" else None

    def _places_if_rewritten(self, facts: dict[str, Any]) -> list[Place] | None:
        """New places where file size or transaction differ from the index; ids are compared on every read."""
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
        warnings.warn(f"{self.path} was rewritten since it was indexed; its positions were read anew", stacklevel=5)
        return places

    def locate(self, position: int, indexed: Place) -> Place:
        """Where a record lies: as indexed, unless the shard was rewritten since."""
        return indexed if self._moved is None else self._moved[position]

    def header(self, position: int, place: Place) -> RecordHeader:
        """Header of a record.

        Raises:
            RecordFormatError: where it is damaged.
            OSError: where the disk cannot be read.
        """
        if self._values is None:
            return read_header_at(self._fd, *place)
        value = self._values.get(position)
        return parse_header(value[: PREFIX.size + header_length(value)])

    def read(self, position: int, place: Place, start: int, length: int) -> bytes:
        """Bytes start..start+length of a record, fewer where the file ends before.

        Raises:
            RecordFormatError: where LMDB has no such record.
            OSError: where the disk cannot be read.
        """
        if self._values is None:
            return os.pread(self._fd, length, place[0] + start)
        return self._values.get(position)[start : start + length]

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class _LmdbValues:
    """Whole values through LMDB itself: the reference that offsets are checked against."""

    def __init__(self, path: Path) -> None:
        import lmdb

        self.pid = os.getpid()
        self._env = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=True, max_spare_txns=0)

    def get(self, position: int) -> bytes:
        with self._env.begin() as txn:
            value = txn.get(f"{position:012d}".encode())
        if value is None:
            raise RecordFormatError(f"record {position} is missing")
        return bytes(value)

    def close(self) -> None:
        self._env.close()

    def __del__(self) -> None:
        if hasattr(self, "_env"):
            self._env.close()


# LMDB refuses to open a file twice in a process (two splits of one dataset), and counts environments that a forked
# child inherited but must not use: one environment a file, the inherited ones closed before the child opens its own.
_values_by_inode: weakref.WeakValueDictionary[tuple[int, int], _LmdbValues] = weakref.WeakValueDictionary()
_values_lock = threading.Lock()


def _forget_lock() -> None:
    global _values_lock
    _values_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_lock)


def _open_values(path: Path) -> _LmdbValues:
    stat = path.stat()
    key = (stat.st_dev, stat.st_ino)
    with _values_lock:
        values = _values_by_inode.get(key)
        if values is not None and values.pid != os.getpid():
            values.close()
            values = None
        if values is None:
            values = _values_by_inode[key] = _LmdbValues(path)
        return values
