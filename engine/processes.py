"""What the kernel tells about another process of this machine; only the standard library is needed here."""

from __future__ import annotations

from pathlib import Path

GONE = frozenset({"X", "Z"})
"""States of a process that runs no more."""


def started_at(pid: int) -> int | None:
    """When a process was started, in the kernel's ticks; None where it is gone or the system does not tell."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def state_of(pid: int, started: int) -> str:
    """The kernel's letter for the state of a process, ``X`` where it is gone.

    Args:
        pid: its number.
        started: when it was started; tells it from a later one of the same number.
    """
    fields = _stat(pid)
    return fields[0] if fields and int(fields[19]) == started else "X"


def has_children(pid: int) -> bool:
    """Whether a process has started others that still run."""
    found = (_stat(int(path.name)) for path in Path("/proc").glob("[0-9]*"))
    return any(fields[1] == str(pid) and fields[0] not in GONE for fields in found if fields)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; proc(5) counts it as the third."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
