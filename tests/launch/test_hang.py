"""Ranks of `intravid pretrain` under torchrun that hang or die: all ends in time, named, and the run goes on."""

import json
import os
import platform
import re
import signal
import time

import pytest

from tests.launch.hanging import FATAL
from tests.launch.runs import LIMIT_S, TORCHRUN, assert_same_run, complete, finish, pretrain_words, start

STEPS = 60
TIMEOUT_S = 10
ENDED_S = TIMEOUT_S + 15
"""For all to end: the time-out, and what a busy machine takes to end torchrun. Without the watch it were 300 s."""
SETTINGS = {"train.steps": STEPS, "train.save_every": 2, "train.hang_timeout_s": TIMEOUT_S}


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """The folder of a run that nothing has disturbed."""
    run = tmp_path_factory.mktemp("whole")
    complete(pretrain_words(run, shards, SETTINGS), under=TORCHRUN)
    return run


def saved(process, run, *, rank=0):
    """The process of a rank, once three checkpoints are written."""
    deadline = time.monotonic() + LIMIT_S
    while len(list((run / "checkpoints").glob("step-*.pt"))) < 3:
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.005)
    (told,) = (run / "alive").glob(f"*/rank-{rank:04d}")
    return json.loads(told.read_text())["pid"]


def stop_in_a_save(process, run):
    """Stop rank 0 between the first and the last byte of a checkpoint: its process."""
    pid, folder = saved(process, run), run / "checkpoints"
    while True:
        assert process.poll() is None, "the run ended before a save was met"
        if list(folder.glob("step-*.tmp.*")):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.01)
            if list(folder.glob("step-*.tmp.*")):
                return pid
            os.kill(pid, signal.SIGCONT)


def ended(process, since):
    """Standard error of a job that had to fail in time."""
    status, said = finish(process)
    assert time.monotonic() - since < ENDED_S
    assert status == 1, said
    return said


@pytest.mark.slow
@pytest.mark.parametrize("then", ["stays stopped", "is killed"])
def test_rank_0_gone_in_a_save_is_named_and_the_run_resumes_as_if_unbroken(whole, shards, tmp_path, then):
    words = pretrain_words(tmp_path, shards, SETTINGS)
    process = start(words, under=TORCHRUN)
    pid = stop_in_a_save(process, tmp_path)
    if then == "is killed":
        os.kill(pid, signal.SIGKILL)
    said = ended(process, time.monotonic())
    fate = "is gone" if then == "is killed" else r"no longer answers: its process is stopped \(SIGSTOP"
    assert re.search(rf"intravid: error: rank 0 on \S+ \(process {pid}\) {fate}.* after step \d+, stage: \w+", said), (
        said
    )
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "going on from step" in complete(words, under=TORCHRUN)
    assert_same_run(whole, tmp_path, steps=STEPS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "fate"),
    [(signal.SIGSTOP, r"no longer answers: its process is stopped \(SIGSTOP"), (signal.SIGKILL, "is gone")],
    ids=["stopped", "killed"],
)
def test_a_rank_lost_in_training_is_named_and_the_run_resumes_as_if_unbroken(whole, shards, tmp_path, sent, fate):
    words = pretrain_words(tmp_path, shards, SETTINGS)
    process = start(words, under=TORCHRUN)
    pid = saved(process, tmp_path, rank=1)
    os.kill(pid, sent)
    said = ended(process, time.monotonic())
    named = rf"intravid: error: rank 1 on \S+ \(process {pid}\) {fate}.* after step \d+, stage: \w+"
    assert re.search(named, said), said
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "going on from step" in complete(words, under=TORCHRUN)
    assert_same_run(whole, tmp_path, steps=STEPS)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="ends a thread by its number of a system call")
def test_a_rank_whose_reading_threads_died_is_named_with_stacks_and_the_run_resumes(
    whole, shards, tmp_path, monkeypatch
):
    monkeypatch.setenv(FATAL, str(tmp_path / "fatal"))
    unreadable = {"method.class_path": "tests.launch.hanging.UnreadableIIC"}
    words = pretrain_words(tmp_path, shards, SETTINGS | unreadable)
    process = start(words, under=TORCHRUN)
    saved(process, tmp_path)
    (tmp_path / "fatal").touch()
    said = ended(process, time.monotonic())
    report = (tmp_path / "hang-rank-0001.txt").read_text()
    for text in (said, report):
        assert re.search(r"rank 1 on \S+ .* held up for \d+ s after step \d+, stage: waiting for data", text), text
        assert "intravid-prefetch" in text
        assert re.search(r'trainer.py", line \d+ in _loop', text)
    (tmp_path / "fatal").unlink()
    complete(words, under=TORCHRUN)
    assert_same_run(whole, tmp_path, steps=STEPS)


@pytest.mark.slow
def test_ranks_whose_torchrun_was_killed_end_and_the_run_resumes_as_if_unbroken(whole, shards, tmp_path):
    words = pretrain_words(tmp_path, shards, SETTINGS)
    process = start(words, under=TORCHRUN)
    saved(process, tmp_path)
    process.kill()
    since = time.monotonic()
    status, said = finish(process)  # to the end of all that write to its standard error
    assert time.monotonic() - since < ENDED_S
    assert status == -signal.SIGKILL
    assert re.search(
        rf"the torchrun agent on \S+ \(process {process.pid}\) is gone.* after step \d+, stage: \w+", said
    ), said
    assert "going on from step" in complete(words, under=TORCHRUN)
    assert_same_run(whole, tmp_path, steps=STEPS)
