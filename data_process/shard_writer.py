"""Shards as files: records to one LMDB file, complete or absent, with bytes that depend on the records alone."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_process.durable import disk_full, is_disk_full, replace_durably, temporary_path
from data_process.errors import RunError
from data_process.lmdb_pages import PageFormatError, read_layout
from data_process.records import PREFIX, RecordFormatError, RecordHeader, describe_units, header_length, pack_record

FORMAT_VERSION = 1
META_KEY = b"~meta"
SHARD_PATTERN = re.compile(r"shard-(\d{6})\.lmdb")
# Both are written into the file or decide its page layout, so they are part of the format version.
_MAP_SIZE = 256 << 30
_COMMIT_BYTES = 64 << 20
_PROBE_BYTES = 1 << 20


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:06d}.lmdb"


def list_shards(root: Path) -> dict[int, Path]:
    """Published shards of a folder, number to path, in order; temporaries and other files are left out."""
    found = ((SHARD_PATTERN.fullmatch(path.name), path) for path in root.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in found if match))


class ShardWriter:
    """Writes one shard aside and publishes it; leaving the block by an exception leaves nothing behind.

    Example::

        with ShardWriter(root, 3, settings_digest=digest, tool="ffmpeg 7.1") as writer:
            writer.add(header, jpegs)
    """

    def __init__(self, root: Path, number: int, *, settings_digest: str = "", tool: str = "") -> None:
        self._final = root / shard_name(number)
        self._number, self._settings_digest, self._tool = number, settings_digest, tool
        self._tmp = temporary_path(self._final)
        self._records, self._uncommitted, self._bytes = 0, 0, 0

    def __enter__(self) -> ShardWriter:
        import lmdb

        self._tmp.unlink(missing_ok=True)
        # lmdb 3 bundles two engines and an environment variable chooses: the 0.9 file format is part of ours.
        engine: dict[str, Any] = {"lib_version": 0} if int(lmdb.__version__.split(".")[0]) >= 3 else {}
        self._env = lmdb.open(
            str(self._tmp), subdir=False, map_size=_MAP_SIZE, lock=False, sync=False, meminit=True, **engine
        )
        self._txn = self._env.begin(write=True)
        return self

    def add(self, header: RecordHeader, units: Sequence[bytes]) -> None:
        """Append one video."""
        value = pack_record(header, units)
        self._put(f"{self._records:012d}".encode(), value)
        self._records += 1
        self._bytes += len(value)

    def _put(self, key: bytes, value: bytes) -> None:
        if not self._txn.put(key, value, append=True):
            raise ValueError(f"{self._final.name}: key {key!r} is out of order")
        self._uncommitted += len(value)
        if self._uncommitted >= _COMMIT_BYTES:
            self._txn.commit()
            self._txn = self._env.begin(write=True)
            self._uncommitted = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the records added so far."""
        return self._bytes

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._publish()
        except Exception as failure:
            self._explain(failure)
            raise
        else:
            if error is not None:
                self._explain(error)
        finally:
            # Without effect where publishing went well; both may come after a commit that failed.
            self._txn.abort()
            self._env.close()
            self._tmp.unlink(missing_ok=True)

    def _explain(self, error: BaseException) -> None:
        """Raise what a person can act upon, where the disk is the reason."""
        import lmdb

        if self._is_for_lack_of_space(error):
            raise disk_full(self._final) from error
        if isinstance(error, lmdb.Error):
            raise RunError(
                f"{self._final} could not be written ({error}) and was removed again, finished shards are kept. See to "
                "the disk and run the same command: it goes on with the missing shards."
            ) from error

    def _is_for_lack_of_space(self, error: BaseException) -> bool:
        if is_disk_full(error):
            return True
        if os.strerror(errno.EIO) not in str(error):
            return False
        # LMDB reports a write that ended early as an input/output error: ask the disk for the space itself.
        try:
            with self._tmp.open("r+b") as file:
                size = os.fstat(file.fileno()).st_size
                os.posix_fallocate(file.fileno(), size, max(self._uncommitted, _PROBE_BYTES))
        except OSError as refusal:
            return is_disk_full(refusal)
        return False

    def _publish(self) -> None:
        import msgpack

        meta = {
            "format": FORMAT_VERSION,
            "shard": self._number,
            "records": self._records,
            "settings": self._settings_digest,
            "tool": self._tool,
        }
        self._put(META_KEY, msgpack.Packer().pack(meta))
        self._txn.commit()
        self._env.sync(True)
        self._env.close()
        self._read_back()
        replace_durably(self._tmp, self._final)

    def _read_back(self) -> None:
        try:
            values = read_layout(self._tmp).values
            with self._tmp.open("rb") as file:
                for key, (offset, _) in values.items():
                    if key != META_KEY:
                        header_length(os.pread(file.fileno(), PREFIX.size, offset))
        except (PageFormatError, RecordFormatError) as error:
            raise RunError(f"{self._tmp} does not hold what was written ({error}); check the disk, run again") from None
        if len(values) != self._records + 1:
            raise RunError(
                f"{self._tmp}: {self._records} records were written, {len(values) - 1} found; check the disk"
            )


def read_meta(path: Path) -> dict[str, Any]:
    """The shard's own `~meta` record, found without opening an LMDB environment.

    Raises:
        PageFormatError: where the file is no complete shard.
    """
    import msgpack

    values = read_layout(path).values
    if META_KEY not in values:
        raise PageFormatError("it is an LMDB file, but not a shard of this format (~meta is missing)")
    offset, length = values[META_KEY]
    with path.open("rb") as file:
        try:
            return dict(msgpack.unpackb(os.pread(file.fileno(), length, offset)))
        except (ValueError, TypeError) as error:
            raise PageFormatError(f"its ~meta record is damaged ({error})") from None


def write_dataset(
    root: str | os.PathLike[str],
    videos: Iterable[tuple[Mapping[str, Any], Sequence[bytes]]],
    *,
    classes: Sequence[str] = (),
    videos_per_shard: int = 64,
) -> Path:
    """Write encoded frames that are already in memory as an indexed dataset.

    Args:
        root: folder to create.
        videos: pairs of header facts (``id``, ``width``, ``height``; optional ``label``, ``split``, ``fps``,
            ``source``, ``state``) and JPEG frames.
        classes: class names, in the order of the labels.
        videos_per_shard: videos in each file.
    """
    from data_process.index import write_index

    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    everything = list(videos)
    for number, first in enumerate(range(0, len(everything), videos_per_shard)):
        with ShardWriter(folder, number) as writer:
            for facts, units in everything[first : first + videos_per_shard]:
                sizes, crcs = describe_units(units)
                given = {
                    "label": -1,
                    "split": "train",
                    "codec": "jpeg",
                    "fps": (25, 1),
                    "num_frames": len(units),
                    **facts,
                }
                writer.add(RecordHeader(**given, unit_sizes=sizes, unit_crcs=crcs), units)
    write_index(folder, classes=classes)
    return folder
