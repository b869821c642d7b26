"""Copying a dataset to a disk of this machine: resumable, checked, once however many processes ask for it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from data_process.durable import replace_durably
from data_process.errors import InputError, RunError
from data_process.index import read_index
from data_process.progress import show_progress
from data_process.shard_writer import list_shards

_CHUNK = 8 << 20
_THREADS = 4
_BESIDE = ("ids.bin", "index.npy", "plan.json", "manifest.jsonl", "quarantine.jsonl", "index.json")
"""Files beside the shards; index.json comes last, so that a copy with it is complete."""


def staged_name(root: Path) -> str:
    """Folder name of a copy: the dataset's own, and what tells datasets of one name apart."""
    resolved = root.resolve()
    return f"{resolved.name}-{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:10]}"


def stage(root: Path, target: Path) -> int:
    """Copy shards and index; files that are there already, of the same size and time, are kept.

    Processes of one machine that ask for the same copy wait for the first of them. Every file is read again after it
    was written and compared with the checksum of what was read from the source, then renamed into place.

    Returns:
        Bytes copied.

    Raises:
        InputError: where the source is no indexed dataset (and no complete copy exists), or the disk has no room.
        RunError: where a copy differs from its source.
    """
    if not root.is_dir() and (target / "index.json").is_file():
        return 0  # the copy is complete, and its source may be gone
    read_index(root)
    target.mkdir(parents=True, exist_ok=True)
    if target.resolve() == root.resolve():
        raise InputError(f"{target} is the dataset itself; give another folder for the copy")
    with _locked(target / ".lock"):
        names = [path.name for path in list_shards(root).values()]
        beside = [name for name in _BESIDE if (root / name).is_file()]
        wanted = [name for name in names if not _is_there(root / name, target / name)]
        others = [name for name in beside if not _is_there(root / name, target / name)]
        if wanted or others:
            # An old index would not fit new shards, and readers take a copy with an index for a whole one.
            (target / "index.json").unlink(missing_ok=True)
            others = [name for name in beside if not _is_there(root / name, target / name)]
        _check_room(root, target, [*wanted, *others])
        copied = _copy_all(root, target, wanted)
        for name in others:
            copied += _copy(root / name, target / name)
        for path in set(list_shards(target).values()) - {target / name for name in names}:
            path.unlink()  # of an earlier state of the source
    return copied


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_there(source: Path, copy: Path) -> bool:
    if not copy.is_file():
        return False
    one, other = source.stat(), copy.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _check_room(root: Path, target: Path, names: list[str]) -> None:
    needed = sum((root / name).stat().st_size for name in names)
    free = shutil.disk_usage(target).free
    if needed > free:
        raise InputError(
            f"{target} has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB of {root} are still to be copied; free "
            "some, or give another folder"
        )


def _copy_all(root: Path, target: Path, names: list[str]) -> int:
    with (
        show_progress(f"stage {root.name}", len(names), unit="shards") as progress,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        total = 0
        for copied in pool.map(lambda name: _copy(root / name, target / name), names):
            total += copied
            progress.advance()
        return total


def _copy(source: Path, copy: Path) -> int:
    """Copy a file aside, compare, publish; what is left of a copy that was killed is overwritten."""
    aside = copy.with_name(f"{copy.name}.tmp.{socket.gethostname()}")
    read = 0
    with source.open("rb") as reading, aside.open("wb") as writing:
        while chunk := reading.read(_CHUNK):
            read = zlib.crc32(chunk, read)
            writing.write(chunk)
        writing.flush()
        os.fsync(writing.fileno())
        size = writing.tell()
    written = 0
    with aside.open("rb") as reading:
        while chunk := reading.read(_CHUNK):
            written = zlib.crc32(chunk, written)
    if written != read:
        aside.unlink()
        raise RunError(f"{copy} differs from {source} after it was written; the disk of {copy.parent} is not sound")
    stat = source.stat()
    os.utime(aside, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    replace_durably(aside, copy)
    return size
