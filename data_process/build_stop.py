"""How a build answers the signals that ask it to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from data_process import killable
from data_process.errors import RunError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stops_at_safe_points() -> Iterator[None]:
    """A signal ends the block between two videos: an exception inside of LMDB would leave a temporary file.

    The handler kills the ffmpegs, so that whoever waits for one goes on at once, and lets none be started.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: after TERM or HUP, with the exit status that shells give them.
    """
    got: list[int] = []

    def stop(number: int, frame: object) -> None:
        got.append(number)
        killable.stop_all()

    before = {number: signal.signal(number, stop) for number in _answered()}
    try:
        yield
    except (KeyboardInterrupt, RunError):
        # What went wrong after a signal went wrong because of it.
        if not got:
            raise
    finally:
        killable.allow()
        for number, handler in before.items():
            signal.signal(number, handler)
    if got:
        raise KeyboardInterrupt if got[0] == signal.SIGINT else SystemExit(128 + got[0])


def _answered() -> list[signal.Signals]:
    """Those that are not ignored, as nohup has it; none outside of the main thread, which alone may set handlers."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
