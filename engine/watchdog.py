"""Ends the whole job, with the culprit named, where a rank hangs: no collective is waited for longer than allowed.

Every rank has a thread that leaves beats in the run folder (`engine.beats`), looks whether the next rank still does,
and whether its own stage takes too long. Whoever notices first judges from the beats of all ranks and leaves its
verdict beside them; the others find it there. A rank whose torchrun agent is gone does the same (`engine.agent`). Where
even that thread cannot run, because something holds Python's global lock, a timer of the C runtime (faulthandler) ends
the process, and the ranks that see it silent name it.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, NoReturn

from data_process.errors import RunError
from engine.agent import agent_of
from engine.beats import Beat, Stage, is_gone, open_beats, process_state, runs
from engine.verdict import Verdict, judge, orphaned
from engine.world import LostPeerError, World

_LOG = logging.getLogger(__name__)
_STDERR = 2
_LARGEST_INTERVAL_S = 5.0
_SURVEY_S = 1.0
"""Least time in which a process that runs gives a sign of life, however busy the machine is."""

GO_ON = "The last checkpoint is complete: start again to go on from it"


class Watchdog:
    """The watch over one rank; made by `watching`, and idle until `start`.

    Args:
        timeout_s: longest that a stage of a step may take; also, within which the whole job has ended. 0 for ever.
        first_step_s: the same for the stages of the first step, which may compile.
    """

    def __init__(self, timeout_s: float, first_step_s: float = 0.0) -> None:
        self._interval_s = min(_LARGEST_INTERVAL_S, timeout_s / 30)
        # What is left of the time-out is for noticing, judging, and ending.
        self._limit_s = timeout_s - 8 * self._interval_s
        self._first_s = max(self._limit_s, first_step_s)
        self._enabled = timeout_s > 0
        self._at = (0, Stage.DATA, 0.0)
        self._thread = threading.Thread(target=self._watch, name="intravid-watchdog", daemon=True)
        self._stopping, self._lock, self._leaving = threading.Event(), threading.Lock(), False

    def at(self, stage: Stage, step: int | None = None) -> None:
        """Say what this rank is about from now on; costs less than a microsecond.

        Args:
            stage: what it does.
            step: finished steps; as before unless given.
        """
        self._at = (self._at[0] if step is None else step, stage, time.monotonic())

    def start(self, run_dir: Path, world: World, *, step: int) -> None:
        """Begin to watch; called by every rank, with the finished steps of the checkpoint that it goes on from.

        Raises:
            RunError: if the run folder cannot be written.
        """
        if not self._enabled:
            return
        try:
            self._beats = open_beats(run_dir, world)
        except OSError as error:
            raise RunError(
                f"rank {world.rank} cannot write its signs of life to {run_dir}: {error.strerror}; mend that, or "
                "switch the watch off by train.hang_timeout_s 0"
            ) from error
        self._run_dir, self._rank, self._first = run_dir, world.rank, step
        self._agent = agent_of(os.environ)
        self._mine, self._seen = Beat(world.rank, step, Stage.DATA), (-1, time.monotonic())
        self.at(Stage.DATA, step)
        self._thread.start()

    def stop(self, ended: Literal["done", "error", "lost peer"]) -> None:
        """End the watch, and tell the others how this rank left."""
        if not self._thread.is_alive():
            return
        self._stopping.set()
        self._thread.join()
        if ended == "lost peer":  # with operations under way, even the end of the process may hang
            self._set_timer()
        self._beat(ended)
        if ended == "done" and self._rank == 0:
            self._beats.remove()

    def culprit(self) -> str:
        """After a lost peer: who it was, as far as the beats tell; empty where nobody watches."""
        if not self._thread.is_alive():
            return ""
        self._leaving = True  # this rank ends in good order, and by itself
        verdict = self._published(judge(*self._survey()))
        self._let_others_end(verdict)
        return verdict.text

    def _watch(self) -> None:
        try:
            while not self._stopping.wait(self._interval_s):
                self._set_timer()
                self._look(self._beat())
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _set_timer(self) -> None:
        # C code that never gives Python's lock back stops every thread of Python's; faulthandler's needs no lock.
        faulthandler.dump_traceback_later(self._limit_s, exit=True, file=_STDERR)

    def _look(self, mine: Beat) -> None:
        if self._leaving and not mine.overdue:
            return
        if told := self._beats.verdict():
            self._end(Verdict.of(told))
        elif self._agent and self._agent.is_gone:
            self._end(self._published(orphaned(mine, self._agent.pid)))
        elif (mine.overdue and not self._waits_for_others(mine)) or self._next_is_silent():
            self._end(self._published(judge(*self._survey())))

    def _beat(self, ended: Literal["", "done", "error", "lost peer"] = "") -> Beat:
        with self._lock:
            step, stage, since = self._at
            waited = time.monotonic() - since
            limit = self._first_s if (step, stage) < (self._first + 1, Stage.DATA) else self._limit_s
            self._mine = replace(
                self._mine,
                step=step,
                stage=stage,
                since_s=waited,
                overdue=waited > limit,
                ended=ended,
                count=self._mine.count + 1,
            )
            self._write(self._mine)
            return self._mine

    def _write(self, beat: Beat) -> None:
        try:
            self._beats.write(beat)
        except FileNotFoundError:
            pass  # rank 0 has cleared up behind a run that has ended
        except OSError as error:
            _LOG.warning("rank %d cannot tell that it is alive: %s", beat.rank, error)

    def _waits_for_others(self, mine: Beat) -> bool:
        """Whether a rank is behind that is still within its time; it speaks up, or is missed, when that is over."""
        others = self._beats.read_all().values()
        return any(one and one.position < mine.position and not (one.overdue or one.ended) for one in others)

    def _next_is_silent(self) -> bool:
        if self._beats.next_rank == self._rank:
            return False
        beat, now = self._beats.read(self._beats.next_rank), time.monotonic()
        count = beat.count if beat else -1
        if count != self._seen[0] or (beat and beat.ended):
            self._seen = (count, now)
        return now - self._seen[1] > self._limit_s + 2 * self._interval_s

    def _survey(self) -> tuple[dict[int, Beat | None], list[int]]:
        """The beats of all ranks, and which of them give no sign while others do; takes a few intervals."""
        before = {rank: beat.count if beat else -1 for rank, beat in self._beats.read_all().items()}
        deadline = time.monotonic() + max(_SURVEY_S, 2.5 * self._interval_s)
        while True:
            self._beat()
            beats = self._beats.read_all()
            present = {rank: beat for rank, beat in beats.items() if beat and not beat.ended}
            if dead := [rank for rank, beat in present.items() if not runs(beat)]:
                return beats, dead
            silent = [rank for rank, beat in beats.items() if beat is None or beat.count == before[rank]]
            failed = any(beat and beat.ended == "error" for beat in beats.values())
            if failed or not silent or time.monotonic() > deadline:
                return beats, silent
            time.sleep(self._interval_s / 4)

    def _published(self, verdict: Verdict) -> Verdict:
        """The verdict that all ranks hear: this one, or that of the rank that was quicker."""
        if not self._beats.claim(asdict(verdict)):
            time.sleep(0.1)  # the other may still be writing it
            told = self._beats.verdict()
            return Verdict.of(told) if told else verdict
        for rank in verdict.silent:
            self._report(rank, f"{verdict.text}\nwritten by rank {self._rank}, since rank {rank} cannot\n")
        return verdict

    def _end(self, verdict: Verdict) -> NoReturn:
        os.write(_STDERR, f"intravid: error: {verdict.text}. {GO_ON}\n".encode())
        if self._rank in verdict.culprits:
            self._show_stacks(verdict)
        self._let_others_end(verdict)
        os._exit(1)  # no other end is safe: whatever hangs would be waited for

    def _show_stacks(self, verdict: Verdict) -> None:
        threads = "".join(f"thread 0x{one.ident or 0:016x} is {one.name}\n" for one in threading.enumerate())
        os.write(_STDERR, threads.encode())
        faulthandler.dump_traceback(_STDERR, all_threads=True)
        self._report(self._rank, f"{verdict.text}\n{threads}", stacks=True)

    def _report(self, rank: int, text: str, *, stacks: bool = False) -> None:
        """Add to the file about a rank that hung; where no disk takes it, what was printed must do."""
        with suppress(OSError), open(self._run_dir / f"hang-rank-{rank:04d}.txt", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}\n{text}")
            file.flush()
            if stacks:
                faulthandler.dump_traceback(file, all_threads=True)

    def _let_others_end(self, verdict: Verdict) -> None:
        if {*verdict.culprits} - {*verdict.silent, self._rank}:
            time.sleep(2 * self._interval_s)  # a launcher that sees one rank end may kill those that show their stacks
        for rank in verdict.silent:
            beat = self._beats.read(rank)
            # On this machine, no launcher need be there to end a process that runs no Python.
            if beat and process_state(beat) is not None and not is_gone(beat):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(beat.pid, signal.SIGKILL)
        if self._agent:
            self._agent.end_after_ranks()


@contextmanager
def watching(timeout_s: float, first_step_s: float = 0.0) -> Iterator[Watchdog]:
    """A watchdog for a run that is set up and torn down inside; a lost peer is named on the way out.

    Args:
        timeout_s: longest that a stage of a step may take, seconds; 0 switches the watch off.
        first_step_s: the same in the first step, where it is longer.

    Raises:
        RunError: in place of the bare news that a peer was lost.
    """
    watchdog = Watchdog(timeout_s, first_step_s)
    ended = "error"
    try:
        yield watchdog
        ended = "done"
    except LostPeerError as error:
        ended, named = "lost peer", watchdog.culprit()
        if not named:
            raise
        raise RunError(f"{named}. To this rank: {error}") from error
    finally:
        watchdog.stop(ended)
