"""LMDB databases as CoCLR and CSTP write them: a msgpack list of JPEGs a video.

Source: ``process_data/src/convert_video_to_lmdb.py`` of CoCLR and its copy in CSTP. Keys of nine digits hold the
videos; ``__order__`` lists names, the position is the key's number; ``__vlen__`` lists frame counts in the order of
``__keys__``, which is another one. Databases written with msgpack before 1.0 have one type for names and bytes.
``__len__`` is not needed: names are compared with the entries themselves.

Values are read by their place in the file instead of through LMDB's memory map: a file that was cut short while it was
copied would otherwise end the process without a word, and CoCLR's maps are 2 TB large.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_process.errors import InputError, RunError
from data_process.lmdb_pages import PageFormatError, read_layout
from data_process.rewrite import LeftOutError
from data_process.shard_writer import META_KEY
from data_process.source import first_ten


@dataclass(frozen=True)
class LegacyVideo:
    """One entry.

    Attributes:
        key: under which it is stored.
        name: ``class/video``; the key where the database tells no names.
        listed_frames: number of frames that ``__vlen__`` tells; None where it tells none.
    """

    key: bytes
    name: str
    listed_frames: int | None


@dataclass(frozen=True)
class LegacyListing:
    """What a database says that it holds.

    Attributes:
        videos: by key.
        warnings: what a person should know, a sentence each.
    """

    videos: Sequence[LegacyVideo]
    warnings: Sequence[str] = ()


class LegacyDatabase:
    """An opened database; nothing is written to it, and one video at a time is in memory.

    Args:
        path: the file (CoCLR) or the folder with ``data.mdb`` (CSTP).

    Raises:
        InputError: for what is no such database, or is cut short.
    """

    def __init__(self, path: Path) -> None:
        data = path / "data.mdb" if path.is_dir() else path
        if not data.is_file():
            raise InputError(f"{path} is no LMDB database; expected a file (CoCLR) or a folder with data.mdb (CSTP)")
        self.path = path
        try:
            self._places = read_layout(data).values
            self._file = data.open("rb")
        except (PageFormatError, OSError) as error:
            raise InputError(f"{path} cannot be read as an LMDB database: {error}") from None
        if META_KEY in self._places:
            self.close()
            raise InputError(f"{path} is a shard of intravid, which needs no import; give its folder to data.root")

    def listing(self) -> LegacyListing:
        """All entries, by key.

        Raises:
            InputError: where names are missing, stand there twice, or belong to another database.
        """
        stored = {key for key in self._places if re.fullmatch(rb"\d{9}", key)}
        source, names = self._names()
        if not stored and not names:
            raise InputError(f"{self.path} holds no videos (keys of nine digits); it is none of CSTP or CoCLR")
        if names is None:
            return self._counted(
                [(key, key.decode()) for key in sorted(stored)],
                f"{self.path} holds no __order__ (the videos' names), and {source} is not there: videos get their keys "
                "as ids, and no classes",
            )
        named = [(f"{number:09d}".encode(), name) for number, name in enumerate(names)]
        unnamed = [key.decode() for key in sorted(stored - {key for key, _ in named})]
        if unnamed:
            raise InputError(
                f"{self.path}: {source} names {len(names)} videos, but {len(unnamed)} more are stored "
                f"({first_ten(unnamed)}); it belongs to another database, or its writing was not finished"
            )
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        if twice:
            raise InputError(f"{self.path}: {source} holds {len(twice)} names more than once: {first_ten(twice)}")
        return self._counted(named)

    def frames(self, key: bytes) -> list[bytes]:
        """JPEGs of a video.

        Raises:
            LeftOutError: where there is no such entry, or it is damaged.
            RunError: where the file cannot be read any more.
        """
        frames = self._value(key)
        if frames is None:
            raise LeftOutError(f"there is no entry {key.decode(errors='replace')}")
        if not _is_list_of(frames, (bytes,)):
            raise LeftOutError("the entry is no list of JPEGs")
        return frames

    def _names(self) -> tuple[str, list[str] | None]:
        """Where names stand, and the names; None where they stand nowhere."""
        if b"__order__" in self._places:
            names = self._special(b"__order__")
            if not _is_list_of(names, (str, bytes)):
                raise InputError(f"{self.path}: __order__ is no list of names; it is no database of CSTP or CoCLR")
            return "__order__", [_as_text(name) for name in names]
        # The converters write their list beside the database, too.
        path = Path(f"{self.path}-order")
        if not path.is_file():
            return str(path), None
        # Not splitlines: names of files may hold what Unicode calls a line separator. The line decides the number, so
        # that only the empty one behind the last line end may be dropped.
        lines = path.read_bytes().decode(errors="surrogateescape").split("\n")
        return str(path), [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]

    def _counted(self, named: Sequence[tuple[bytes, str]], *warnings: str) -> LegacyListing:
        """With the frame counts of ``__vlen__``, which stand in the order of ``__keys__``."""
        keys, counts = self._special(b"__keys__"), self._special(b"__vlen__")
        listed: dict[bytes, int] = {}
        if _is_list_of(keys, (str, bytes)) and _is_list_of(counts, (int,)) and len(keys) == len(counts):
            listed = {_as_bytes(key): count for key, count in zip(keys, counts, strict=True)}
        else:
            warnings += (f"{self.path}: __keys__ and __vlen__ do not fit together: frame counts are not compared",)
        return LegacyListing([LegacyVideo(key, name, listed.get(key)) for key, name in named], warnings)

    def _special(self, key: bytes) -> Any:
        try:
            return self._value(key)
        except LeftOutError as error:
            raise InputError(f"{self.path}: {key.decode()} cannot be read ({error})") from None

    def _value(self, key: bytes) -> Any:
        """The unpacked value of a key; None where there is none."""
        if key not in self._places:
            return None
        offset, length = self._places[key]
        try:
            # Not pread, which ends at 2 GiB; a long video may hold more.
            self._file.seek(offset)
            value = self._file.read(length)
        except OSError as error:
            raise RunError(f"{self.path} cannot be read any more ({error}); run the same command again") from None
        if len(value) < length:
            raise RunError(f"{self.path} became shorter while it was read; copy it again, and run the same command")
        return _unpack(value)

    def close(self) -> None:
        """Close the database."""
        self._file.close()

    def __enter__(self) -> LegacyDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unpack(value: bytes) -> Any:
    import msgpack

    try:
        try:
            return msgpack.unpackb(value)
        except UnicodeDecodeError:
            # Written before msgpack 1.0: pictures have the type of names.
            return msgpack.unpackb(value, raw=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise LeftOutError(f"its value is damaged ({error})", "truncated") from None


def _is_list_of(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, list) and all(isinstance(one, types) for one in value)


def _as_text(name: str | bytes) -> str:
    return name.decode(errors="surrogateescape") if isinstance(name, bytes) else name


def _as_bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
