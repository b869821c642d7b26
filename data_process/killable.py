"""Child programs that end in any case: at a time limit, when asked to stop, and with the process that started them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Finished:
    """What a child program left.

    Attributes:
        status: exit status; negative for a signal; None where it was ended at the time limit.
        output: standard output.
        messages: complaints on standard error, one a line, without addresses.
        times: presentation times of the frames in the output, microseconds, growing; one may be there whose frame is
            not.
    """

    status: int | None
    output: bytes
    messages: tuple[str, ...]
    times: tuple[int, ...] = ()


Clock = Callable[[], float]
"""Seconds since any moment; one that stands still while the program waits for us charges only the program."""

_SHORTEST_TURN_S = 0.05
"""Least time between two looks at a clock that may stand still."""


def run(
    command: list[str], *, limit_s: float, pass_fds: tuple[int, ...] = (), clock: Clock = time.monotonic
) -> Finished:
    """Run a program in its own process group; when the clock reaches the time limit the whole group is killed.

    Raises:
        KeyboardInterrupt: where `stop_all` was called meanwhile or before: what a killed program left is no result.
    """
    process = subprocess.Popen(
        [*_dies_with_its_parent(), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=pass_fds,
    )
    try:
        with _lock:
            _refuse_when_stopped()
            _running.add(process)
        output, errors = _communicate(process, clock() + limit_s, clock)
        _refuse_when_stopped()
    except subprocess.TimeoutExpired:
        _kill(process)
        output, errors = process.communicate()
        _refuse_when_stopped()
        return Finished(None, output, _clean(errors))
    except BaseException:
        _kill(process)
        process.communicate()
        raise
    finally:
        _running.discard(process)
    return Finished(process.returncode, output, _clean(errors))


def _communicate(process: subprocess.Popen[bytes], end: float, clock: Clock) -> tuple[bytes, bytes]:
    """What a process writes until it ends; a clock that stood still gives it another turn."""
    while True:
        try:
            return process.communicate(timeout=max(end - clock(), _SHORTEST_TURN_S))
        except subprocess.TimeoutExpired:
            if clock() >= end:
                raise


_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.RLock()  # a signal handler may come upon its own thread inside
_stopped = False


def is_stopped() -> bool:
    """Whether `stop_all` was called."""
    return _stopped


def allow() -> None:
    """Let programs be started again after `stop_all`."""
    global _stopped
    _stopped = False


def stop_all() -> None:
    """Kill what runs, and let nothing be started: threads that wait for theirs end at once."""
    global _stopped
    with _lock:
        _stopped = True
        for process in list(_running):
            _kill(process)


def _refuse_when_stopped() -> None:
    if _stopped:
        raise KeyboardInterrupt


def _kill(process: subprocess.Popen[bytes]) -> None:
    # A program that was waited for has given its number back, perhaps to somebody else.
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


_BY_SHELL = 'test "$PPID" = "$0" && exec "$@"'
_BY_PYTHON = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) and os.execvp(sys.argv[2], sys.argv[2:])"
)


def _dies_with_its_parent() -> tuple[str, ...]:
    """Words in front of a command that have the kernel kill it when we end, also where we are killed (Linux).

    The kernel watches the *thread* that started the program; ours wait for what they start. Where we are gone before
    it began to watch, the program is not started. (Between fork and exec Python must not run in a child of a process
    with threads, therefore a program does it.)
    """
    if sys.platform != "linux":
        return ()
    if (setpriv := _setpriv()) is not None:
        return (setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", _BY_SHELL, str(os.getpid()))
    return (sys.executable, "-I", "-S", "-c", _BY_PYTHON, str(os.getpid()))


@lru_cache(maxsize=1)
def _setpriv() -> str | None:
    """The program of util-linux, where it is one that can do this: those of 2017 and of BusyBox cannot."""
    program = shutil.which("setpriv")
    if program is None:
        return None
    tried = subprocess.run([program, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", ":"], capture_output=True)
    return program if tried.returncode == 0 else None


def _clean(errors: bytes) -> tuple[str, ...]:
    lines = (line.strip() for line in errors.decode(errors="replace").splitlines())
    return tuple(re.sub(r" @ 0x[0-9a-f]+", "", line) for line in lines if line)
