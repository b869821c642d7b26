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
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file written aside, made durable, then moved over `path`; on an error `path` keeps what it had.

    Args:
        path: what is replaced.
        durable: wait until a power loss cannot take it back; a busy disk may need seconds for that. Without it the
            file is still whole or absent for every reader and after a kill.

    Raises:
        RunError: if it cannot be written (disk full, no permission).
    """
    aside = path.with_name(f"{path.name}{_ASIDE}{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(aside, path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; what was there before is untouched. Make room or mend "
            "the permissions of the folder, then start again"
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # Without this a power loss may forget the new name although the bytes are on the disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left half written of files of a name; only where no other process writes them."""
    for leftover in folder.glob(f"{name}{_ASIDE}*"):
        leftover.unlink(missing_ok=True)
