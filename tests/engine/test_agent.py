import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.agent import Agent, agent_of
from engine.processes import started_at, state_of

ROOT = Path(__file__).parents[2]
LIMIT_S = 60
TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_MAX_RESTARTS": "3"}

RANK = """\
import os
from engine.agent import agent_of
agent_of({"TORCHELASTIC_RUN_ID": "1"}).end_after_ranks(grace_s=0.2)
"""

pytestmark = pytest.mark.skipif(started_at(os.getpid()) is None, reason="this system has no /proc")


def test_an_agent_is_the_parent_of_a_rank_that_torchrun_has_started():
    assert agent_of({}) is None
    agent = agent_of(TORCHRUN)
    assert agent == Agent(os.getppid(), started_at(os.getppid()), restarts=True)
    assert not agent.is_gone
    assert not agent_of({**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "3"}).restarts
    assert Agent(os.getpid(), started=None, restarts=False).is_gone  # nobody is the own parent


def test_an_agent_that_stays_is_ended_after_its_rank():
    # A stand-in for one that waits for another machine: it starts a rank, and does not see its end.
    staying = ["sh", "-c", '"$0" -c "$1" && exec sleep 1000', sys.executable, RANK]
    agent = subprocess.Popen(staying, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        _, said = agent.communicate(timeout=LIMIT_S)
        assert agent.returncode == -9, said
        assert f"the torchrun agent (process {agent.pid}) does not see" in said
    finally:
        agent.kill()


def test_an_agent_that_ends_by_itself_is_not_touched(capfd):
    agent = subprocess.Popen(["sleep", "0.3"])
    started = started_at(agent.pid)
    watched = subprocess.run(
        [sys.executable, "-m", "engine.agent", str(agent.pid), str(started), str(LIMIT_S)], cwd=ROOT
    )
    assert watched.returncode == 0
    assert agent.wait() == 0
    assert capfd.readouterr().err == ""


def test_an_agent_whose_other_ranks_still_run_is_waited_for(tmp_path):
    go = tmp_path / "go"
    rank = 'while [ ! -e "$0" ]; do sleep 0.05; done'
    agent = subprocess.Popen(["sh", "-c", f"{rank} & wait", str(go)])
    watch = [sys.executable, "-m", "engine.agent", str(agent.pid), str(started_at(agent.pid)), "0.0"]
    watching = subprocess.Popen(watch, cwd=ROOT)
    with pytest.raises(subprocess.TimeoutExpired):
        watching.wait(timeout=2.0)  # with nothing to wait for it would long have killed
    go.touch()
    assert watching.wait(timeout=LIMIT_S) == 0
    agent.wait(timeout=LIMIT_S)


def test_an_agent_that_starts_its_ranks_again_is_left_alone(monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, **_: started.append(words))
    Agent(1, 1, restarts=True).end_after_ranks()
    Agent(1, None, restarts=False).end_after_ranks()  # nor one that could be mistaken for another
    assert started == []
    Agent(1, 1, restarts=False).end_after_ranks()
    assert started[0][1:3] == ["-m", "engine.agent"]


def test_a_number_that_has_passed_to_another_process_is_not_taken_for_the_old_one():
    started = started_at(os.getpid())
    assert state_of(os.getpid(), started) in "RS"
    assert state_of(os.getpid(), started - 1) == "X"
    assert started_at(2**22 + 1) is None  # beyond the kernel's largest
