import os
import signal
import stat
import subprocess
import sys

import pytest

from engine.stop import Stop
from launch import requeue
from tests.launch.runs import ROOT

JOB = {"SLURM_JOB_ID": "5"}


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stand-ins for SLURM's commands that note their words; `commands(name, status, says)` makes one."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(name, *, status=0, says=""):
        path = tmp_path / name
        path.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.words\necho "{says}"\necho "{says}" >&2\nexit {status}\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return tmp_path / f"{name}.words"

    return make


@pytest.fixture
def left(monkeypatch):
    """Makes the end of the process visible as an exception."""

    class LeftError(Exception):
        pass

    def leave():
        raise LeftError

    monkeypatch.setattr(requeue, "_leave_at_once", leave)
    return LeftError


@pytest.mark.parametrize(
    ("reason", "status"), [(Stop.INTERRUPT, 130), (Stop.TERMINATE, 0), (Stop.REQUEUE, 0)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("rank", [0, 1])
def test_outside_slurm_a_stop_is_the_end(reason, status, rank):
    previous = {signal.SIGUSR2: signal.SIG_DFL}
    assert requeue.leave_stopped(reason, rank=rank, previous=previous, environ={}) == status


def test_torchrun_on_several_machines_is_told_that_a_run_told_to_end_is_not_complete():
    for machines, status in (("1", 0), ("2", 143)):
        environ = {"GROUP_WORLD_SIZE": machines}
        assert requeue.leave_stopped(Stop.TERMINATE, rank=0, previous={}, environ=environ) == status
        assert requeue.leave_stopped(Stop.REQUEUE, rank=0, previous={}, environ=environ) == 0


@pytest.mark.parametrize(
    ("environ", "job"),
    [(JOB, "5"), (JOB | {"SLURM_ARRAY_JOB_ID": "4", "SLURM_ARRAY_TASK_ID": "2"}, "4_2")],
    ids=["job", "array"],
)
def test_rank_0_puts_the_job_back_into_the_queue(commands, left, environ, job):
    words = commands("scontrol")
    with pytest.raises(left):
        requeue.leave_stopped(Stop.REQUEUE, rank=0, previous={}, environ=environ)
    assert words.read_text().split() == ["requeue", job]


def test_other_ranks_leave_without_a_result(commands, left):
    words = commands("scontrol")
    with pytest.raises(left):
        requeue.leave_stopped(Stop.REQUEUE, rank=1, previous={}, environ=JOB)
    assert not words.exists()


def test_submitits_own_handler_does_the_requeue(commands, left):
    words, called = commands("scontrol"), []

    def handler(number, frame):
        called.append(number)
        raise SystemExit(255)

    for environ in (JOB, {}):  # its local executor knows no SLURM
        with pytest.raises(SystemExit):
            requeue.leave_stopped(Stop.REQUEUE, rank=0, previous={signal.SIGUSR2: handler}, environ=environ)
    assert called == [signal.SIGUSR2] * 2
    assert not words.exists()
    with pytest.raises(left):
        requeue.leave_stopped(Stop.REQUEUE, rank=1, previous={signal.SIGUSR2: handler}, environ={})


def test_a_requeue_that_the_site_forbids_ends_with_status_3_and_says_so(commands, caplog):
    commands("scontrol", status=1, says="Job requeue is disabled")
    assert requeue.leave_stopped(Stop.REQUEUE, rank=0, previous={}, environ=JOB) == 3
    assert "Job requeue is disabled" in caplog.text
    assert "submit the same command again" in caplog.text


@pytest.mark.parametrize(
    "error", [subprocess.CalledProcessError(1, "scontrol"), RuntimeError("timed out too often"), None], ids=repr
)
def test_a_requeue_that_submitit_does_not_manage_ends_with_status_3(caplog, error):
    def handler(number, frame):
        if error is not None:
            raise error

    assert requeue.leave_stopped(Stop.REQUEUE, rank=0, previous={signal.SIGUSR2: handler}, environ=JOB) == 3
    assert "the run is saved" in caplog.text


def test_under_slurm_term_waits_to_be_killed_and_never_requeues(commands, monkeypatch):
    words = commands("scontrol")
    naps = []
    monkeypatch.setattr(requeue, "_TERM_WAIT_S", 0.2)
    monkeypatch.setattr(requeue.time, "sleep", lambda seconds: naps.append(signal.getsignal(signal.SIGUSR2)))
    before = signal.getsignal(signal.SIGUSR2)
    try:
        status = requeue.leave_stopped(Stop.TERMINATE, rank=0, previous={signal.SIGUSR2: print}, environ=JOB)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert status == 128 + signal.SIGTERM
    assert set(naps) == {signal.SIG_IGN}
    assert not words.exists()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("10:00", 510.0),
        ("1:00:00", 3510.0),
        ("1-01:01:01", 90061 - 90.0),
        ("2:00", 0.0),
        ("UNLIMITED", 0.0),
        ("INVALID", 0.0),
        ("", 0.0),
    ],
)
def test_a_job_stops_by_itself_before_its_end(commands, said, seconds):
    words = commands("squeue", says=said)
    assert requeue.seconds_left(JOB) == seconds
    assert words.read_text().split() == ["-h", "-j", "5", "-o", "%L"]


def test_a_process_outside_slurm_asks_nobody(commands):
    words = commands("squeue", says="10:00")
    assert requeue.seconds_left({}) == 0.0
    assert not words.exists()


def test_a_squeue_that_fails_leaves_the_signals(commands, caplog):
    commands("squeue", status=1, says="down")
    assert requeue.seconds_left(JOB) == 0.0
    assert "only signals will stop the run" in caplog.text


def test_leaving_at_once_runs_nothing_more():
    code = "import atexit, launch.requeue as r; atexit.register(print, 'late'); print('early'); r._leave_at_once()"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "early\n")


SHIELDED = """\
import os, signal, subprocess, sys
from launch.requeue import requeue_when_told

def handler(number, frame):
    print("requeued", flush=True)
    sys.exit(-1)

signal.signal(signal.SIGUSR2, handler)
requeue_when_told()
child = "import os, signal, sys; os.kill(os.getpid(), signal.SIGUSR2); print('alive', flush=True); sys.stdin.read()"
with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE):
    sys.stdin.read()
"""


def test_usr2_requeues_a_command_of_no_own_word_and_spares_its_children():
    """A build's ffmpeg would die of it, and the video would be taken for damaged."""
    job = subprocess.Popen(
        [sys.executable, "-c", SHIELDED], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert job.stdout.readline() == "alive\n"
    job.send_signal(signal.SIGUSR2)
    job.wait(timeout=60)  # with its input open: at the end of that it would leave by itself
    assert job.communicate()[0] == "requeued\n"
    assert job.returncode == 255
