"""Files that are complete or absent: written aside, renamed into place, and swept where their writer was killed."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from data_process.errors import RunError

_FOREIGN_TMP_AGE_S = 24 * 3600.0


def temporary_path(path: Path) -> Path:
    """Where this process writes a file aside; host and process stand in the name, so that it can be swept."""
    return path.with_name(f"{path.name}.tmp.{socket.gethostname()}.{os.getpid()}")


def replace_durably(tmp: Path, final: Path) -> None:
    """Rename a finished file into place so that after a power loss it is complete or absent."""
    _fsync(tmp)
    tmp.replace(final)
    _fsync(final.parent)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all."""
    _write_aside(path, data, replace_durably)


def publish_once(path: Path, data: bytes) -> None:
    """Write a small file whole, unless there is one: of several processes that write it at once the first prevails."""
    _write_aside(path, data, _link_durably)


def _link_durably(tmp: Path, final: Path) -> None:
    _fsync(tmp)
    try:
        os.link(tmp, final)
    except FileExistsError:
        return
    except OSError:
        # A file system without hard links. Between the look and the rename another process may be the first.
        if not final.exists():
            tmp.replace(final)
    _fsync(final.parent)


def _write_aside(path: Path, data: bytes, publish: Callable[[Path, Path], None]) -> None:
    tmp = temporary_path(path)
    try:
        tmp.write_bytes(data)
        publish(tmp, path)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(path) from error
        raise
    finally:
        tmp.unlink(missing_ok=True)


def sweep_stale(root: Path) -> list[Path]:
    """Remove temporaries of dead processes on this host, and of other hosts if older than a day; the removed paths."""
    removed = []
    for path in root.glob("*.tmp.*.*"):
        match = re.fullmatch(r".+\.tmp\.(.+)\.(\d+)", path.name)
        if match is None:
            continue
        host, pid = match[1], int(match[2])
        stale = not _is_alive(pid) if host == socket.gethostname() else _age_s(path) > _FOREIGN_TMP_AGE_S
        if stale:
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # A process that was killed and that nobody waited for has a number still, but nothing else.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of the system or of LMDB says so."""
    # LMDB's errors carry the system's text only. A spent quota is how a full disk looks on a shared file system.
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(os.strerror(code) in str(error) for code in full)


def disk_full(path: Path) -> RunError:
    """What is told then."""
    return RunError(
        f"the disk is full: {path} could not be written and was removed again, finished shards are kept. "
        "Free some space and run the same command: it goes on with the missing shards."
    )
