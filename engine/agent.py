"""The torchrun agent that has started this rank: whether it is still there, and that it does not outlive its ranks.

torchrun looks after ranks, but nobody after torchrun. An agent that is killed leaves ranks behind that train on, and
that nobody would end or restart. An agent whose way to the store of the others is cut waits for an answer as long as
TCP does, for minutes, and does not see that its ranks have ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.processes import GONE, has_children, started_at, state_of

_GRACE_S = 5.0
"""For an agent to see that its ranks have ended, and to say so; a sound one takes less than a second."""
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Agent:
    """The process that torchrun is on this machine, and the parent of this rank.

    Attributes:
        pid: its number.
        started: when it was started, in the kernel's ticks; None where the system does not tell.
        restarts: whether it starts ranks that fail again; it may then wait for other machines, and is left alone.
    """

    pid: int
    started: int | None
    restarts: bool

    @property
    def is_gone(self) -> bool:
        """Whether this rank has lost its parent."""
        return os.getppid() != self.pid

    def end_after_ranks(self, grace_s: float = _GRACE_S) -> None:
        """See to it, in a process that outlives this one, that the agent ends so many seconds after its last rank."""
        if self.restarts or self.started is None:
            return
        words = [sys.executable, "-m", "engine.agent", str(self.pid), str(self.started), str(grace_s)]
        with suppress(OSError):  # no more processes to be had: this rank ends all the same
            subprocess.Popen(
                words,
                cwd=Path(__file__).resolve().parents[1],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )


def agent_of(environ: Mapping[str, str]) -> Agent | None:
    """The agent of this rank; None where torchrun has not started it.

    Args:
        environ: of this process, as torchrun sets it.
    """
    if "TORCHELASTIC_RUN_ID" not in environ:
        return None
    used, most = (int(environ.get(f"TORCHELASTIC_{name}", "0")) for name in ("RESTART_COUNT", "MAX_RESTARTS"))
    pid = os.getppid()
    return Agent(pid, started_at(pid), restarts=used < most)


def _end(pid: int, started: int, grace_s: float) -> None:
    alone_since = time.monotonic()
    while state_of(pid, started) not in GONE:
        if has_children(pid):  # it may be ending them
            alone_since = time.monotonic()
        elif time.monotonic() - alone_since > grace_s:
            print(
                f"intravid: the torchrun agent (process {pid}) does not see that its ranks have ended, and is killed: "
                "it waits for another machine",
                file=sys.stderr,
                flush=True,
            )
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    _end(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
