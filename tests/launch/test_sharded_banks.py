"""Banks that are shared out over the ranks of `intravid pretrain`, one of which is killed."""

import json
import os
import signal
import time

import pytest

from engine.checkpoint import latest_checkpoint, read_checkpoint
from tests.launch.runs import LIMIT_S, TORCHRUN, assert_same_run, complete, finish, pretrain_words, start

STEPS = 80
SETTINGS = {"train.steps": STEPS, "train.save_every": 4, "method.bank_placement": "sharded"}


def kill_rank_1(process, run):
    """By SIGKILL, once three checkpoints are written."""
    deadline = time.monotonic() + LIMIT_S
    while len(list((run / "checkpoints").glob("step-*.pt"))) < 3:
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.005)
    (told,) = (run / "alive").glob("*/rank-0001")
    os.kill(json.loads(told.read_text())["pid"], signal.SIGKILL)


@pytest.mark.slow
def test_a_run_with_sharded_banks_resumes_as_if_no_rank_had_been_killed(shards, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    words = pretrain_words(cut, shards, SETTINGS)
    process = start(words, under=TORCHRUN)
    kill_rank_1(process, cut)
    status, said = finish(process)
    assert status == 1, said
    assert read_checkpoint(latest_checkpoint(cut)).step < STEPS
    assert "going on from step" in complete(words, under=TORCHRUN)
    complete(pretrain_words(whole, shards, SETTINGS), under=TORCHRUN)
    assert_same_run(whole, cut, steps=STEPS)
    rows = read_checkpoint(latest_checkpoint(cut)).method["contrast.banks.intra.rows"]
    assert len(rows) == 16
    assert rows[0].norm().item() == pytest.approx(1.0), "every video has been seen, on whichever rank its row is"
    assert rows[1].norm().item() == pytest.approx(1.0)
