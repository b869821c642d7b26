"""What can be said of a source file without decoding it."""

from __future__ import annotations

import re
from pathlib import Path

_INDEX_BYTES = 4 << 20
_READ_BYTES = 1 << 20


def read_problem(path: Path) -> str:
    """The system's error where a file cannot be read to its end; empty where it can, and for what is no plain file.

    Asked where decoding went wrong: a disk that fails, a mount that went away or a missing permission look like
    damaged videos to ffmpeg.
    """
    try:
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(_READ_BYTES):
                    pass
    except OSError as error:
        return str(error)
    return ""


def is_encrypted(path: Path) -> bool:
    """Whether an MP4 file says that its streams need a key (ISO/IEC 23001-7); ffmpeg decodes them to noise.

    Looked for at both ends of the file, where its index stands.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_INDEX_BYTES)
        file.seek(-min(_INDEX_BYTES, file.seek(0, 2)), 2)
        return re.search(rb"schm.{4}(cenc|cens|cbc1|cbcs)", head + file.read(), re.DOTALL) is not None


def describe_file(path: Path) -> dict[str, float | int | None]:
    """Size in bytes and time of the last change; None where the file cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return {"bytes": None, "mtime": None}
    return {"bytes": status.st_size, "mtime": status.st_mtime}
