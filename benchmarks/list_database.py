"""The originals' database, a msgpack list of JPEGs a video in one LMDB file: packed and read as they do it.

Layout and open flags follow CoCLR's converter and data sets, which CSTP copied. Nothing heavy is imported here: every
worker process of the packing imports this module.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path

_MAP_SIZE = 2 * 10**12  # CoCLR's


def write_lists(path: Path, classes: Iterable[Iterable[tuple[int, str, Sequence[bytes]]]]) -> int:
    """Write a database.

    Args:
        path: the file.
        classes: for every class its videos as (number, name, JPEGs); a class is one transaction, as published.

    Returns:
        Number of frames.
    """
    import lmdb
    import msgpack

    pack = msgpack.Packer().pack
    names: dict[int, str] = {}
    lengths: list[int] = []
    with lmdb.open(str(path), subdir=False, map_size=_MAP_SIZE, lock=False) as database:
        for videos in classes:
            with database.begin(write=True) as transaction:
                for number, name, frames in videos:
                    transaction.put(_key(number), pack(list(frames)))
                    names[number] = name
                    lengths.append(len(frames))
        with database.begin(write=True) as transaction:
            transaction.put(b"__keys__", pack([_key(number) for number in names]))
            transaction.put(b"__len__", pack(len(names)))
            transaction.put(b"__order__", pack([names[number] for number in sorted(names)]))
            transaction.put(b"__vlen__", pack(lengths))
        database.sync(True)
    return sum(lengths)


def pack_folders(folder: Path, database: Path, *, workers: int) -> int:
    """The originals' second step: frame files to one database, read by worker processes, a class at a time.

    Args:
        folder: holds `CLASS/VIDEO/*.jpg`.
        database: the file to write.
        workers: processes; waited for, so that their processor time is known afterwards.

    Returns:
        Number of frames.
    """
    found = sorted(path for path in folder.glob("*/*") if path.is_dir())
    shuffled = found.copy()
    random.Random(0).shuffle(shuffled)
    numbers = {path: number for number, path in enumerate(shuffled)}
    classes = [list(paths) for _, paths in itertools.groupby(found, key=lambda path: path.parent)]
    with get_context("spawn").Pool(workers) as pool:
        num_frames = write_lists(database, (_read_class(pool, paths, numbers) for paths in classes))
        pool.close()
        pool.join()
    return num_frames


def start_workers(count: int, folder: Path) -> int:
    """Start packing processes and end them again; the number of frames that they read, of an empty folder."""
    with get_context("spawn").Pool(count) as pool:
        read = pool.map(read_frames, [folder] * count, chunksize=1)
        pool.close()
        pool.join()
    return sum(map(len, read))


def _read_class(
    pool: Pool, paths: Sequence[Path], numbers: dict[Path, int]
) -> Iterator[tuple[int, str, Sequence[bytes]]]:
    for path, frames in zip(paths, pool.map(read_frames, paths, chunksize=1), strict=True):
        yield numbers[path], f"{path.parent.name}/{path.name}", frames


def read_frames(folder: Path) -> list[bytes]:
    """The frame files of a video, in the order of their names."""
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def _key(number: int) -> bytes:
    return f"{number:09d}".encode()


class ListReader:
    """Frames through `txn.get` and unpacking of the whole video, as the originals' data sets read them.

    Args:
        path: the file.
        readahead: whether the kernel may read ahead; the originals say no.

    Attributes:
        num_bytes: of the values that were read so far.
    """

    def __init__(self, path: Path, *, readahead: bool) -> None:
        import lmdb

        self.num_bytes = 0
        self._database = lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, readahead=readahead, meminit=False
        )

    def __call__(self, number: int, frames: Sequence[int]) -> Sequence[bytes]:
        """Encoded frames of a video."""
        import msgpack

        with self._database.begin() as transaction:
            value = transaction.get(_key(number))
            if value is None:
                raise KeyError(f"the database has no video {number}")
            self.num_bytes += len(value)
            video = msgpack.unpackb(value)
        return [video[frame] for frame in frames]
