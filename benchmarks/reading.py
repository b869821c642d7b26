"""One reader of clips, measured in a process of its own: time, bytes from the disk, page faults and memory a clip."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.list_database import ListReader

Clip = tuple[int, tuple[int, ...]]
"""Sample index, and the numbers of the wanted frames."""


@dataclass(frozen=True)
class ReaderSpec:
    """How clips are read.

    Attributes:
        path: folder of shards, or file of a list database.
        readahead: of the list database; None reads the shards.
    """

    path: Path
    readahead: bool | None = None

    def files(self) -> list[Path]:
        """The files that frames come from."""
        return [self.path] if self.readahead is not None else sorted(self.path.glob("*.lmdb"))

    def open(self) -> Callable[[int, Sequence[int]], object]:
        """The reader: (sample index, frame numbers) to encoded frames."""
        if self.readahead is not None:
            return ListReader(self.path, readahead=self.readahead)
        from data_process.shards import ShardSet

        return ShardSet(self.path).read_frames


@dataclass(frozen=True)
class Reading:
    """What reading took, a clip: milliseconds, of them of the processor, bytes from the disk, faults that read it.

    Attributes:
        ms: mean duration.
        cpu_ms: mean processor time.
        disk_bytes: mean number of bytes that came from the disk.
        faults: mean number of page faults for which the disk was read.
        memory_mb: peak memory of the process above what it had after its imports.
    """

    ms: float
    cpu_ms: float
    disk_bytes: float
    faults: float
    memory_mb: float


def read_clips(spec: ReaderSpec, clips: Sequence[Clip], *, cold: bool) -> Reading:
    """Read clips in a fresh process.

    Args:
        spec: how.
        clips: which, in this order.
        cold: whether the kernel forgets the files before every clip; otherwise they are read once before the first.
    """
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (spec, clips, cold))


def _measure(spec: ReaderSpec, clips: Sequence[Clip], cold: bool) -> Reading:
    import lmdb  # noqa: F401  all of what any reader imports, so that the memory of imports is nobody's
    import msgpack  # noqa: F401

    import data_process.shards  # noqa: F401

    files = spec.files()
    if not cold:
        _fill_cache(files)
    before_mb = _memory_mb("VmRSS")
    read = spec.open()
    wall = cpu = 0.0
    disk, faults = _disk_bytes(), _faults()
    for index, frames in clips:
        if cold:
            _empty_cache(files)
        start, start_cpu = time.perf_counter(), time.thread_time()
        read(index, frames)
        wall += time.perf_counter() - start
        cpu += time.thread_time() - start_cpu
    disk, faults = _disk_bytes() - disk, _faults() - faults
    number = len(clips)
    memory_mb = _memory_mb("VmHWM") - before_mb
    return Reading(1e3 * wall / number, 1e3 * cpu / number, disk / number, faults / number, memory_mb)


def _fill_cache(files: Sequence[Path]) -> None:
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def _empty_cache(files: Sequence[Path]) -> None:
    """Without effect on pages that this process has mapped: those it has read before."""
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def _disk_bytes() -> int:
    return _field(Path("/proc/self/io"), "read_bytes")


def _memory_mb(name: str) -> float:
    return _field(Path("/proc/self/status"), name) / 1024


def _field(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(f"{name}:"))


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt
