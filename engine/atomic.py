"""Files that are either complete or absent, whatever kills the process or the machine in between."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from data_process.errors import RunError

_ASIDE = ".tmp."


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file written aside, made durable, then moved over `path`; on an error `path` keeps what it had.

    Raises:
        RunError: if it cannot be written (disk full, no permission).
    """
    aside = path.with_name(f"{path.name}{_ASIDE}{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        # Without this a power loss may forget the new name although the bytes are on the disk.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched. Make room or mend "
            "the permissions of the folder, then start again"
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def sweep_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written; only where no other process writes to the folder."""
    for leftover in folder.glob(f"*{_ASIDE}*"):
        leftover.unlink(missing_ok=True)
