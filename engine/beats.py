"""Signs of life that ranks leave for each other in the run folder, apart from the collectives that may hang."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Literal

from engine.processes import GONE, started_at, state_of
from engine.world import World

_LOG = logging.getLogger(__name__)
FOLDER = "alive"
"""Part of the run folder that belongs to a running job: one file a rank, and the verdict if there is one."""

_FILE_BYTES = 512
_VISIBLE_WITHIN_S = 5.0


class Stage(IntEnum):
    """What a rank is about, in the order in which the stages follow the end of a step."""

    AGREE = 0
    EVALUATE = 1
    COMPARE = 2
    LOG = 3
    SAVE = 4
    DATA = 5
    FORWARD = 6
    BACKWARD = 7
    OPTIMIZER = 8
    CLOSE = 9

    @property
    def words(self) -> str:
        """For a message."""
        return _WORDS[self]


_WORDS = {
    Stage.AGREE: "agreeing whether to stop",
    Stage.EVALUATE: "evaluating the network",
    Stage.COMPARE: "gathering what was evaluated",
    Stage.LOG: "writing the log",
    Stage.SAVE: "saving a checkpoint",
    Stage.DATA: "waiting for data",
    Stage.FORWARD: "forward",
    Stage.BACKWARD: "backward",
    Stage.OPTIMIZER: "optimizer",
    Stage.CLOSE: "closing the run",
}


@dataclass(frozen=True)
class Beat:
    """What one rank tells about itself.

    Attributes:
        rank: who.
        step: finished steps.
        stage: what it does since then.
        since_s: how long it has been in this stage, seconds.
        overdue: whether that is longer than it may be.
        ended: how it has left the loop, empty while it is in it.
        count: of its beats; one that no longer grows belongs to a process that does not run.
        host: name of its machine.
        pid: its process on that machine.
        started: when that process was started, in the kernel's ticks; tells it from a later one of the same number.
        machine: where process numbers mean the same: boot of a kernel and name space; empty where it is not told.
    """

    rank: int
    step: int
    stage: Stage
    since_s: float = 0.0
    overdue: bool = False
    ended: Literal["", "done", "error", "lost peer"] = ""
    count: int = 0
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    started: int | None = field(default_factory=lambda: started_at(os.getpid()))
    machine: str = field(default_factory=lambda: machine())

    @property
    def position(self) -> tuple[int, Stage]:
        """Grows as the rank goes on; where one rank is behind the others, they wait for it."""
        return self.step, self.stage

    @property
    def name(self) -> str:
        """For a message."""
        return f"rank {self.rank} on {self.host} (process {self.pid})"


class Beats:
    """The files of all ranks, seen by one of them; made by `open_beats`.

    Args:
        folder: shared by all ranks of this start, and by nothing else.
        rank: of this process.
        ranks: whose files can be seen here.

    Attributes:
        next_rank: the one that this rank keeps an eye on; itself where it can see no other.
    """

    def __init__(self, folder: Path, rank: int, ranks: Sequence[int]) -> None:
        self._folder, self._ranks = folder, ranks
        self.next_rank = ranks[(ranks.index(rank) + 1) % len(ranks)]

    def write(self, beat: Beat) -> None:
        """Tell it.

        Raises:
            OSError: if it cannot be told; the others then take this rank for silent.
        """
        text = json.dumps(asdict(beat)).ljust(_FILE_BYTES).encode()
        # In place: a full disk still takes it. Opened each time: that is what makes network file systems pass it on.
        descriptor = os.open(self._path(beat.rank), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, text, 0)
        finally:
            os.close(descriptor)

    def read(self, rank: int) -> Beat | None:
        """The last beat of a rank; None where there is none, or just half of one."""
        content = _content(self._path(rank))
        return Beat(**{**content, "stage": Stage(content["stage"])}) if content else None

    def read_all(self) -> dict[int, Beat | None]:
        """The last beats of all ranks."""
        return {rank: self.read(rank) for rank in self._ranks}

    def claim(self, verdict: dict[str, object]) -> bool:
        """Say why the job ends, unless another rank has said so already; whether this one was the first."""
        try:
            with open(self._folder / "verdict", "x", encoding="utf-8") as file:
                file.write(json.dumps(verdict))
        except FileExistsError:
            return False
        except OSError:
            return True  # nobody can be told; this rank still knows
        return True

    def verdict(self) -> dict[str, object] | None:
        """Why the job ends, if a rank has said so."""
        return _content(self._folder / "verdict")

    def remove(self) -> None:
        """Take the files away; by rank 0 at a clean end."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):
            self._folder.parent.rmdir()

    def _path(self, rank: int) -> Path:
        return self._folder / f"rank-{rank:04d}"


def open_beats(run_dir: Path, world: World) -> Beats:
    """A folder for the beats of this start; called by every rank. What earlier starts left is swept away.

    Where the machines do not share the run folder, each rank sees itself alone, with a warning.

    Raises:
        OSError: if it cannot be written.
    """
    name = world.gather(uuid.uuid4().hex[:12])[0]
    folder = run_dir / FOLDER / name
    if world.is_main:
        shutil.rmtree(run_dir / FOLDER, ignore_errors=True)
    world.wait_for_all()
    folder.mkdir(parents=True, exist_ok=True)
    beats = Beats(folder, world.rank, range(world.world_size))
    beats.write(Beat(world.rank, 0, Stage.DATA))
    if not world.largest(int(not _seen(beats))):
        return beats
    if world.is_main:
        _LOG.warning("not all ranks see %s: each of them notices where it hangs itself, but not the others", run_dir)
    return Beats(folder, world.rank, [world.rank])


def _seen(beats: Beats) -> bool:
    deadline = time.monotonic() + _VISIBLE_WITHIN_S
    while beats.read(beats.next_rank) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@cache
def machine() -> str:
    """What all processes have in common that see each other by number; containers may share a host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_state(beat: Beat) -> str | None:
    """The kernel's letter for the state of a beat's process, ``X`` where it is gone; None where that is not known
    here: it is on another machine, or the system does not tell.
    """
    if beat.started is None or beat.machine != machine():
        return None
    return state_of(beat.pid, beat.started)


def is_gone(beat: Beat) -> bool:
    """Whether the process of a beat is known to exist no longer."""
    return process_state(beat) in GONE


def runs(beat: Beat) -> bool:
    """Whether the process of a beat may still run: it is not known to be gone or stopped."""
    return process_state(beat) not in {*GONE, "T", "t"}


def _content(path: Path) -> dict[str, object] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
