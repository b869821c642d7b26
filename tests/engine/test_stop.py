import os
import signal

import pytest

from engine.stop import Stop, StopFlag
from engine.world import World


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGTERM, Stop.TERMINATE), (signal.SIGUSR2, Stop.REQUEUE), (signal.SIGINT, Stop.INTERRUPT)],
)
def test_a_signal_only_raises_the_flag(number, reason):
    flag = StopFlag(World())
    with flag.watching():
        assert flag.agreed() is Stop.NONE
        os.kill(os.getpid(), number)
        assert flag.agreed() is reason
        assert flag.agreed() is reason


def test_a_second_ctrl_c_ends_at_once():
    flag = StopFlag(World())
    with flag.watching():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_of_others_are_kept_and_put_back():
    seen = []

    def theirs(number, frame):
        seen.append(number)

    before = signal.signal(signal.SIGUSR2, theirs)
    try:
        flag = StopFlag(World())
        with flag.watching():
            os.kill(os.getpid(), signal.SIGUSR2)
            assert seen == []
            assert flag.previous[signal.SIGUSR2] is theirs
        os.kill(os.getpid(), signal.SIGUSR2)
        assert seen == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_the_deadline_asks_to_be_requeued():
    now = [100.0]
    flag = StopFlag(World(), after_seconds=60, clock=lambda: now[0])
    assert flag.agreed() is Stop.NONE
    now[0] += 60
    assert flag.agreed() is Stop.REQUEUE


def test_running_out_of_time_outranks_termination():
    flag = StopFlag(World())
    flag.ask(Stop.REQUEUE)
    flag.ask(Stop.TERMINATE)
    assert flag.agreed() is Stop.REQUEUE


def _signalled_on_rank_1(world):
    flag = StopFlag(world)
    with flag.watching():
        answers = [flag.agreed()]
        if world.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        answers.append(flag.agreed())
    return answers


def test_a_signal_to_one_rank_stops_both_at_the_same_step(two_ranks):
    assert two_ranks.run(_signalled_on_rank_1) == [[Stop.NONE, Stop.TERMINATE]] * 2
