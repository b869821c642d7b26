import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_process.errors import InputError
from engine.beats import Stage
from engine.log import read_log
from engine.train_config import TrainConfig
from engine.watchdog import Watchdog, watching
from engine.world import LostPeerError, World
from tests.engine.hanging_run import STEP
from tests.engine.ranks import free_port
from tests.engine.tiny import run_tiny

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 6.0
START_S = 60.0
"""For importing torch on a busy machine."""

ENDED_S = TIMEOUT_S + 10.0
"""For all to end: the time-out, and what a busy machine takes to end an interpreter. Without the watch it were 60 s."""


class Job:
    """Ranks as processes of their own, with no launcher that would end one for another."""

    def __init__(self, run, what="nothing", *, where=1, world_size=2, timeout_s=TIMEOUT_S, collective_s=60.0):
        self.run, port = run, free_port()
        self.ranks = [
            subprocess.Popen(
                [
                    sys.executable, "-m", "tests.engine.hanging_run",
                    *map(str, (run, rank, world_size, port, timeout_s, collective_s, what, where)),
                ],
                cwd=ROOT, stderr=subprocess.PIPE, text=True,
            )
            for rank in range(world_size)
        ]  # fmt: skip

    def wait_for_step(self, step):
        deadline = time.monotonic() + START_S
        log = self.run / "log.jsonl"
        while not (log.exists() and any(record["step"] >= step for record in read_log(log))):
            assert time.monotonic() < deadline, f"step {step} did not come"
            assert all(rank.poll() is None for rank in self.ranks), [rank.communicate() for rank in self.ranks]
            time.sleep(0.02)

    def end(self, within_s):
        """Exit status and standard error of each rank; they must have ended by themselves."""
        deadline = time.monotonic() + within_s
        try:
            said = [rank.communicate(timeout=max(0.1, deadline - time.monotonic()))[1] for rank in self.ranks]
        finally:
            for rank in self.ranks:
                rank.kill()
        return [rank.returncode for rank in self.ranks], said

    def report(self, rank):
        return (self.run / f"hang-rank-{rank:04d}.txt").read_text()


@pytest.mark.slow
def test_a_stopped_rank_is_named_and_killed_and_the_others_end(tmp_path):
    job = Job(tmp_path)
    job.wait_for_step(STEP + 1)
    job.ranks[1].send_signal(signal.SIGSTOP)
    status, said = job.end(within_s=ENDED_S)
    assert status == [1, -signal.SIGKILL]
    named = rf"rank 1 on \S+ \(process {job.ranks[1].pid}\) no longer answers: its process is stopped .SIGSTOP"
    assert re.search(named, said[0]), said[0]
    assert re.search(r"last seen after step \d+, stage: \w+", said[0])
    assert re.search(named, job.report(1))


@pytest.mark.slow
def test_a_rank_whose_loader_thread_died_shows_its_stacks_and_all_end(tmp_path):
    job = Job(tmp_path, "loader thread dies")
    job.wait_for_step(STEP - 1)
    status, said = job.end(within_s=ENDED_S)
    assert status == [1, 1]
    for text in (*said, job.report(1)):
        assert re.search(rf"rank 1 on \S+ .* held up for \d s after step {STEP}, stage: waiting for data", text), text
    for text in (said[1], job.report(1)):
        assert "is intravid-prefetch" in text
        assert re.search(r'prefetch.py", line \d+ in __iter__', text), "the stack of the thread that waits"
    assert not (tmp_path / "hang-rank-0000.txt").exists()


@pytest.mark.slow
def test_where_a_collective_times_out_first_the_one_it_waited_for_still_tells(tmp_path):
    job = Job(tmp_path, "loader thread dies", timeout_s=45.0, collective_s=3.0)
    status, said = job.end(within_s=START_S)
    assert status == [1, 1]
    assert re.search(
        r"rank 1 on \S+ .* stage: waiting for data\. To this rank: another process .* Timed out", said[0]
    ), said[0]
    assert re.search(r'prefetch.py", line \d+ in __iter__', said[1]), said[1]


@pytest.mark.slow
def test_a_process_in_which_no_python_runs_any_more_shows_its_stacks_and_ends(tmp_path):
    job = Job(tmp_path, "lock is kept")
    job.wait_for_step(STEP - 1)
    status, said = job.end(within_s=ENDED_S)
    assert status == [1, 1]
    assert "in keep_the_lock" in said[1]
    assert re.search(r"rank 1 on \S+ .* (is gone|no longer answers).* last seen after step \d", said[0])


@pytest.mark.slow
def test_a_killed_rank_is_named_at_once(tmp_path):
    job = Job(tmp_path)
    job.wait_for_step(STEP + 1)
    job.ranks[1].kill()
    status, said = job.end(within_s=ENDED_S)
    assert status == [1, -signal.SIGKILL]
    assert re.search(rf"rank 1 on \S+ \(process {job.ranks[1].pid}\) is gone; it was last seen after step", said[0])
    assert "start again to go on from it" in said[0]


@pytest.mark.slow
def test_a_rank_that_failed_is_named_by_the_others(tmp_path):
    job = Job(tmp_path, "error")
    status, said = job.end(within_s=START_S)
    assert status == [1, 1]
    assert "OSError: a disk went away" in said[1]
    assert re.search(r"rank 1 on \S+ .* has ended by an error", said[0])


@pytest.mark.slow
def test_slow_stages_that_end_in_time_raise_no_alarm(tmp_path):
    # A first step of 6 s, and a rank that takes twice 3 s in one step while the other waits: a stage has 4.4 s.
    status, said = Job(tmp_path, "slow").end(within_s=START_S)
    assert status == [0, 0], said
    assert not list(tmp_path.glob("hang-*"))
    assert not (tmp_path / "alive").exists()


def test_a_watched_run_is_the_same_as_one_that_is_not(tmp_path):
    _, bare = run_tiny(tmp_path / "bare")
    with watching(60.0) as watchdog:
        _, watched = run_tiny(tmp_path / "watched", watchdog=watchdog)
        assert (tmp_path / "watched" / "alive").exists()
    assert all(bool((watched.state_dict()[name] == value).all()) for name, value in bare.state_dict().items())
    assert not (tmp_path / "watched" / "alive").exists()


def test_saying_where_one_is_costs_less_than_a_hundredth_of_the_shortest_step():
    watchdog = Watchdog(60.0)
    start = time.perf_counter()
    for _ in range(10_000):
        watchdog.at(Stage.FORWARD)
    assert (time.perf_counter() - start) / 10_000 * 7 < 1e-4, "seconds of the seven marks of a step, of 10 ms"


def test_a_watch_that_is_switched_off_leaves_nothing_and_passes_errors(tmp_path):
    def lose_a_peer():
        with watching(0.0) as watchdog:
            watchdog.start(tmp_path, World(), step=0)
            raise LostPeerError("gloo is not happy")

    with pytest.raises(LostPeerError, match="gloo"):
        lose_a_peer()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"hang_timeout_s": 3.0}, {"hang_timeout_s": -1.0}, {"first_step_timeout_s": -1.0}])
def test_a_time_out_too_short_to_judge_in_is_refused(wrong):
    with pytest.raises(InputError, match=r"train\.hang_timeout_s"):
        TrainConfig(**wrong)
