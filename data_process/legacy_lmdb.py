"""LMDB databases as CoCLR and CSTP write them: a msgpack list of JPEGs a video.

Source: ``process_data/src/convert_video_to_lmdb.py`` of CoCLR and its copy in CSTP. Keys of nine digits hold the
videos; ``__order__`` lists names, the position is the key's number; ``__vlen__`` lists frame counts in the order of
``__keys__``, which is another one. Databases written with msgpack before 1.0 have one type for names and bytes.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_process.errors import InputError
from data_process.rewrite import LeftOutError


@dataclass(frozen=True)
class LegacyVideo:
    """One entry.

    Attributes:
        key: under which it is stored.
        name: ``class/video``.
        listed_frames: number of frames that ``__vlen__`` tells; None where it tells none.
    """

    key: bytes
    name: str
    listed_frames: int | None


class LegacyDatabase:
    """An opened database; nothing is written to it, and one video at a time is in memory.

    Args:
        path: the file (CoCLR) or the folder with ``data.mdb`` (CSTP).

    Raises:
        InputError: for what is no such database.
    """

    def __init__(self, path: Path) -> None:
        import lmdb

        if not (path.is_file() or (path / "data.mdb").is_file()):
            raise InputError(f"{path} is no LMDB database; expected a file (CoCLR) or a folder with data.mdb (CSTP)")
        self.path = path
        engine: dict[str, Any] = {"lib_version": 0} if int(lmdb.__version__.split(".")[0]) >= 3 else {}
        try:
            self._env = lmdb.open(
                str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=True, meminit=False, **engine
            )
        except lmdb.Error as error:
            raise InputError(f"{path} cannot be opened as an LMDB database ({error})") from None
        self._end = weakref.finalize(self, self._env.close)

    def videos(self) -> list[LegacyVideo]:
        """All entries, by key.

        Raises:
            InputError: where names are missing.
        """
        keys = self._special(b"__keys__")
        names = self._special(b"__order__")
        if names is None:
            names = self._order_file()
        if not isinstance(names, list):
            raise InputError(
                f"{self.path} holds no __order__ (the videos' names), and {self.path}-order is not there; it is no "
                "database of CSTP or CoCLR, or its conversion was not finished"
            )
        lengths = self._special(b"__vlen__")
        listed = [f"{number:09d}".encode() for number in range(len(names))]
        frames: dict[bytes, int] = {}
        if isinstance(keys, list) and isinstance(lengths, list) and len(keys) == len(lengths):
            # Counts stand in the order of __keys__, names in that of the numbers.
            frames = {_as_bytes(key): int(length) for key, length in zip(keys, lengths, strict=True)}
        return [
            LegacyVideo(key, _as_text(name), frames.get(key)) for key, name in zip(listed, names, strict=True)
        ]  # fmt: skip

    def frames(self, key: bytes) -> list[bytes]:
        """JPEGs of a video.

        Raises:
            LeftOutError: where there is no such entry, or it is damaged.
        """
        with self._env.begin() as txn:
            value = txn.get(key)
        if value is None:
            raise LeftOutError(f"there is no entry {key.decode(errors='replace')}")
        frames = _unpack(value)
        if not isinstance(frames, list) or not all(isinstance(frame, bytes) for frame in frames):
            raise LeftOutError("the entry is no list of JPEGs")
        return frames

    def _special(self, key: bytes) -> Any:
        with self._env.begin() as txn:
            value = txn.get(key)
        try:
            return None if value is None else _unpack(value)
        except LeftOutError as error:
            raise InputError(f"{self.path}: {key.decode()} cannot be read ({error})") from None

    def _order_file(self) -> list[str] | None:
        path = Path(f"{self.path}-order")
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else None

    def close(self) -> None:
        """Close the database."""
        self._end()


def _unpack(value: bytes) -> Any:
    import msgpack

    try:
        return msgpack.unpackb(value)
    except UnicodeDecodeError:
        # Written before msgpack 1.0: pictures have the type of names.
        return msgpack.unpackb(value, raw=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise LeftOutError(f"{type(error).__name__}: {error}") from None


def _as_text(name: str | bytes) -> str:
    return name.decode(errors="surrogateescape") if isinstance(name, bytes) else name


def _as_bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
