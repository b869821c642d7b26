"""Where LMDB keeps each value of a closed file: a walk over its pages that touches no payload.

Layout of LMDB 0.9 (``mdb.c``: MDB_meta, MDB_page, MDB_node): two meta pages, branch and leaf pages; a large value
lies in a run of consecutive overflow pages, 16 bytes into the first, so that ``pread`` reads any part of it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADER = 16
_NEWER_HEADER = 24  # of LMDB 1.0, file format 3
_META = struct.Struct("<IIQQ")  # magic, version, fixed address, map size
_DB = struct.Struct("<IHHQQQQQ")  # pad, flags, depth, branch, leaf, overflow pages, entries, root
_LMDB_MAGIC = 0xBEEFC0DE
_NO_PAGE = 2**64 - 1
_BRANCH, _LEAF = 0x01, 0x02
_BIG_VALUE = 0x01


class PageFormatError(ValueError):
    """A file that is not a complete LMDB 0.9 file."""


@dataclass(frozen=True)
class ShardLayout:
    """What the walk over a file found.

    Attributes:
        file_size: bytes that the file must have at least: (last page + 1) x page size.
        transaction: id of the newest committed transaction; changes with every write.
        values: key to (offset, length) of its value in the file, in key order.
    """

    file_size: int
    transaction: int
    values: dict[bytes, tuple[int, int]]


def read_layout(path: str | os.PathLike[str]) -> ShardLayout:
    """Walk the pages of a closed LMDB file.

    Raises:
        PageFormatError: for a foreign, truncated or newer file; the text says which.
    """
    with Path(path).open("rb") as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        page_size, transaction, last_page, root = _newest_meta(fd, size)
        needed = (last_page + 1) * page_size
        if size < needed:
            raise PageFormatError(f"the file has {size} bytes, its pages need {needed}: it is cut short")
        values = dict(_walk(fd, root, page_size, set())) if root != _NO_PAGE else {}
        if any(offset + length > needed for offset, length in values.values()):
            raise PageFormatError("a value reaches beyond the last page: the file is damaged")
        return ShardLayout(needed, transaction, values)


def read_transaction(fd: int) -> int:
    """Id of the newest committed transaction of an open file.

    Raises:
        PageFormatError: for a foreign or truncated file.
    """
    return _newest_meta(fd, os.fstat(fd).st_size)[1]


def _newest_meta(fd: int, size: int) -> tuple[int, int, int, int]:
    first = os.pread(fd, 4096, 0)
    if len(first) < 4096:
        raise PageFormatError(f"the file has {size} bytes, too few for an LMDB file")
    page_size = _parse_meta(first)[0]
    if not 512 <= page_size <= 65536:
        raise PageFormatError(f"page size {page_size} is not one that LMDB uses")
    return max((_parse_meta(first), _parse_meta(os.pread(fd, 4096, page_size))), key=lambda meta: meta[1])


def _parse_meta(page: bytes) -> tuple[int, int, int, int]:
    if len(page) < _HEADER + 136:
        raise PageFormatError("a meta page is missing: the file is cut short")
    magic, version, _, _ = _META.unpack_from(page, _HEADER)
    if _META.unpack_from(page, _NEWER_HEADER)[0] == _LMDB_MAGIC:
        version = _META.unpack_from(page, _NEWER_HEADER)[1]
        raise PageFormatError(f"LMDB file format {version}; only format 1 (LMDB 0.9) is read here")
    if magic != _LMDB_MAGIC:
        raise PageFormatError("the file is not an LMDB file (wrong magic)")
    if version != 1:
        raise PageFormatError(f"LMDB file format {version}; only format 1 (LMDB 0.9) is read here")
    base = _HEADER + _META.size
    page_size = _DB.unpack_from(page, base)[0]
    root = _DB.unpack_from(page, base + _DB.size)[7]
    last_page, transaction = struct.unpack_from("<QQ", page, base + 2 * _DB.size)
    return page_size, transaction, last_page, root


def _walk(fd: int, number: int, page_size: int, seen: set[int]) -> Iterator[tuple[bytes, tuple[int, int]]]:
    page = os.pread(fd, page_size, number * page_size) if number < _NO_PAGE // page_size // 2 else b""
    if len(page) < page_size:
        raise PageFormatError(f"page {number} is missing: the file is cut short")
    flags, lower = struct.unpack_from("<HH", page, 10)
    if not flags & (_BRANCH | _LEAF) or not _HEADER <= lower <= page_size:
        raise PageFormatError(f"page {number} is neither branch nor leaf: the file is damaged")
    if number in seen:
        raise PageFormatError(f"page {number} stands in the tree twice: the file is damaged")
    seen.add(number)
    try:
        nodes = list(_nodes(page, lower, number * page_size, is_branch=bool(flags & _BRANCH), page_size=page_size))
    except struct.error:
        raise PageFormatError(f"page {number} points outside of itself: the file is damaged") from None
    for node in nodes:
        if isinstance(node, int):
            yield from _walk(fd, node, page_size, seen)
        else:
            yield node


def _nodes(
    page: bytes, lower: int, base: int, *, is_branch: bool, page_size: int
) -> Iterator[int | tuple[bytes, tuple[int, int]]]:
    """Numbers of the pages below a branch, or keys with the places of their values in a leaf."""
    for node in struct.unpack_from(f"<{(lower - _HEADER) // 2}H", page, _HEADER):
        low, high, node_flags, key_size = struct.unpack_from("<HHHH", page, node)
        if is_branch:
            yield low | high << 16 | node_flags << 32
            continue
        data = node + 8 + key_size
        place = base + data
        if node_flags & _BIG_VALUE:
            place = struct.unpack_from("<Q", page, data)[0] * page_size + _HEADER
        yield bytes(page[node + 8 : data]), (place, low | high << 16)
