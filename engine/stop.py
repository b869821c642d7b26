"""Stopping in good order: signals and the clock only raise a flag, all ranks leave at the same step boundary."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType

from engine.world import World


class Stop(IntEnum):
    """Why the ranks stop; where several reasons meet, the largest counts.

    NONE: go on.
    INTERRUPT: Ctrl-C once; nothing is restarted. A second Ctrl-C ends the process at once.
    TERMINATE: SIGTERM (scancel, preemption, torchrun's shutdown); never asks to be requeued.
    REQUEUE: SIGUSR2 (time is nearly up) or the own deadline; the job asks to be queued again.
    """

    NONE = 0
    INTERRUPT = 1
    TERMINATE = 2
    REQUEUE = 3


_SIGNALS = {
    signal.SIGINT: Stop.INTERRUPT,
    signal.SIGTERM: Stop.TERMINATE,
    signal.SIGUSR2: Stop.REQUEUE,
}


class StopFlag:
    """The flag of one rank.

    Args:
        world: the ranks that agree.
        after_seconds: ask for REQUEUE this long after construction; 0 for no deadline.
        clock: seconds, monotonic.

    Attributes:
        previous: signal number to the handler that stood there before `watching`, for those (submitit) that have to
            do their own part once the run has stopped.
    """

    def __init__(
        self, world: World, *, after_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._world, self._clock = world, clock
        self._deadline = clock() + after_seconds if after_seconds > 0 else None
        self._asked = Stop.NONE
        self.previous: dict[int, object] = {}

    @contextmanager
    def watching(self) -> Iterator[StopFlag]:
        """Catch TERM, INT and USR2 while the context lasts; only in the main thread, after anyone else's handlers.

        Children that are forked meanwhile inherit the handlers, which do nothing but set a flag in the child.
        """
        self.previous = {number: signal.signal(number, self._raise) for number in _SIGNALS}
        try:
            yield self
        finally:
            for number, handler in self.previous.items():
                # None stands for a handler that was not installed from Python and cannot be put back.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)  # pyright: ignore[reportArgumentType]

    def ask(self, reason: Stop) -> None:
        """Raise the flag of this rank; it never goes down again."""
        self._asked = max(self._asked, reason)

    def agreed(self) -> Stop:
        """The largest flag of all ranks; called once by every rank at each step boundary."""
        if self._deadline is not None and self._clock() >= self._deadline:
            self.ask(Stop.REQUEUE)
        return Stop(self._world.largest(self._asked))

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._asked >= Stop.INTERRUPT:
            raise KeyboardInterrupt
        self.ask(_SIGNALS[signal.Signals(number)])
