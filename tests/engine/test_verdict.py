import os
import signal
import subprocess
import sys
from dataclasses import asdict

import pytest

from engine.beats import Beat, Stage, started_at
from engine.verdict import Verdict, judge


def beats(*places, **changed):
    """A beat of each rank at (step, stage); more of it by `rank_N`."""
    made = (Beat(rank, *place, since_s=9.0, **changed.get(f"rank_{rank}", {})) for rank, place in enumerate(places))
    return {beat.rank: beat for beat in made}


def test_the_rank_that_is_behind_is_the_one_the_others_wait_for():
    found = judge(beats((7, Stage.BACKWARD), (7, Stage.DATA), (8, Stage.AGREE)), silent=())
    assert (found.culprits, found.silent) == ((1,), ())
    assert found.text.endswith("is held up for 9 s after step 7, stage: waiting for data")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ((7, Stage.DATA), (7, Stage.FORWARD)),
        ((7, Stage.OPTIMIZER), (8, Stage.AGREE)),
        ((8, Stage.AGREE), (8, Stage.LOG)),
        ((8, Stage.EVALUATE), (8, Stage.COMPARE)),  # one that is through waits for those that still evaluate
        ((8, Stage.COMPARE), (8, Stage.LOG)),
        ((8, Stage.SAVE), (8, Stage.DATA)),  # only rank 0 writes, the others go on
        ((8, Stage.SAVE), (8, Stage.CLOSE)),
    ],
)
def test_stages_are_ordered_as_the_loop_goes_through_them(earlier, later):
    assert judge(beats(later, earlier), silent=()).culprits == (1,)


def test_where_none_is_behind_no_rank_is_blamed_and_all_show_their_stacks():
    found = judge(beats((7, Stage.BACKWARD), (7, Stage.BACKWARD)), silent=())
    assert found.culprits == (0, 1)
    assert found.text.endswith("network between the machines does not go on")
    machines = {"rank_0": {"host": "a1"}, "rank_1": {"host": "a2"}}
    found = judge(beats((7, Stage.BACKWARD), (7, Stage.BACKWARD), **machines), silent=())
    start = "all 2 ranks, on 2 machines from a1 to a2, are after step 7, stage: backward and none is behind"
    assert found.text.startswith(start)


def test_a_process_alone_is_its_own_culprit():
    found = judge(beats((0, Stage.FORWARD)), silent=())
    assert found.culprits == (0,)
    assert "rank 0 on" in found.text
    assert "held up for 9 s after step 0, stage: forward" in found.text


def test_who_no_longer_answers_is_the_culprit_however_far_it_was():
    found = judge(beats((7, Stage.DATA), (8, Stage.DATA), (8, Stage.DATA)) | {2: None}, silent=(1, 2))
    assert found.culprits == found.silent == (1, 2)
    assert "its process runs, but none of its Python threads does" in found.text  # it is the one of this test
    assert "rank 2 has never answered" in found.text


def test_a_rank_that_failed_outweighs_those_that_its_end_has_silenced():
    ended = {"rank_0": {"ended": "lost peer"}, "rank_1": {"ended": "error"}}
    found = judge(beats((7, Stage.CLOSE), (6, Stage.CLOSE), (7, Stage.BACKWARD), **ended), silent=(0, 2))
    assert found.culprits == (1,)
    assert "has ended by an error after step 6" in found.text


def test_a_rank_that_left_for_a_lost_peer_is_not_blamed():
    ended = {"rank_0": {"ended": "lost peer"}}
    assert judge(beats((6, Stage.CLOSE), (7, Stage.DATA), **ended), silent=(0,)).culprits == (1,)


def test_the_state_of_a_process_is_told_from_its_machine_alone():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    there = {"pid": process.pid, "started": started_at(process.pid)}
    try:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        told = [judge({0: Beat(0, 7, Stage.DATA, **{**there, **more})}, silent=(0,)).text for more in ELSEWHERE]
    finally:
        process.kill()
        process.communicate()
    assert "its process is stopped (SIGSTOP" in told[0]
    assert "its machine, or the way from there to the run folder is lost" in told[1]
    assert "is gone" in told[2], "the number belongs to a later process"
    assert "is gone" in judge({0: Beat(0, 7, Stage.DATA, **there)}, silent=(0,)).text


ELSEWHERE = ({}, {"machine": "another"}, {"started": 1})


def test_a_verdict_comes_back_from_its_fields():
    found = judge(beats((7, Stage.DATA), (8, Stage.DATA)), silent=(1,))
    assert Verdict.of(asdict(found)) == found
