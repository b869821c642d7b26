"""`intravid pretrain` under torchrun on two hosts: all ends in time after a loss, and the run goes on."""

import json
import re
import signal
import sys
import time

import pytest

from engine.log import read_log
from tests.launch.runs import LIMIT_S, TORCHRUN, assert_same_run, complete, finish, heartbeat, pretrain_words
from tests.launch.two_hosts import two_hosts
from tests.slurm.conftest import LONG

pytestmark = pytest.mark.slow

STEPS = 100
TIMEOUT_S = 10
ENDED_S = TIMEOUT_S + 20
"""For all to end: the time-out, the grace of an agent, and what a busy machine takes. Left alone, agents take 300 s."""
SETTINGS = {"train.steps": STEPS, "train.save_every": 2, "train.hang_timeout_s": TIMEOUT_S}


long = pytest.mark.skipif(not LONG, reason="near to another that runs; INTRAVID_SLURM_LONG=1 runs it")


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """The folder of a run of two ranks on this machine that nothing has disturbed."""
    run = tmp_path_factory.mktemp("whole")
    complete(pretrain_words(run, shards, SETTINGS), under=TORCHRUN)
    return run


@pytest.fixture
def hosts(tmp_path):
    with two_hosts(tmp_path) as both:
        yield both


class Launch:
    """A run that is started on both hosts, one rank on each; the first holds the store of the agents.

    Args:
        hosts: where.
        run: its folder.
        shards: its data.
        restarts: times that torchrun starts the ranks again by itself.
    """

    def __init__(self, hosts, run, shards, *, restarts=0):
        self._hosts, self.run, self._restarts = hosts, run, restarts
        self._words = pretrain_words(run, shards, SETTINGS)
        self.start(name="first")

    def start(self, *, name):
        """Start both, in a rendezvous of that name."""
        self._name = name
        self.agents = [self.start_on(number) for number in range(2)]

    def start_on(self, number):
        words = ["--nnodes", 2, "--nproc-per-node", 1, "--max-restarts", self._restarts, "--rdzv-backend", "c10d"]
        words += [
            "--rdzv-id",
            self._name,
            "--rdzv-endpoint",
            "left:29400",
            "--rdzv-conf",
            f"is_host={int(number == 0)}",
        ]
        host = self._hosts.hosts[number]
        return host.start(sys.executable, "-m", "torch.distributed.run", *words, "-m", "launch", *self._words)

    def reach(self, step):
        deadline, log = time.monotonic() + LIMIT_S, self.run / "log.jsonl"
        while not (log.exists() and any(record["step"] >= step for record in read_log(log))):
            assert all(agent.poll() is None for agent in self.agents), [finish(agent) for agent in self.agents]
            assert time.monotonic() < deadline, f"step {step} did not come"
            time.sleep(0.01)

    def kill_agent(self, number, sent):
        pid = self.agents[number].stdout.readline().strip()
        self._hosts.hosts[number].run("kill", f"-{sent.value}", pid)

    def kill_rank(self, number):
        (told,) = (self.run / "alive").glob(f"*/rank-{number:04d}")
        self._hosts.hosts[number].run("kill", "-9", json.loads(told.read_text())["pid"])

    def ranks_ended(self):
        """Wait until none is left, whatever the agents do."""
        deadline = time.monotonic() + ENDED_S
        while any(
            set(host.running("pretrain")) - set(host.running("torch.distributed.run")) for host in self._hosts.hosts
        ):
            assert time.monotonic() < deadline, "the ranks did not end in time"
            time.sleep(0.2)

    def ended(self, since):
        """Exit status and standard error of both agents, which have ended in time, and all ranks with them."""
        both = [finish(agent) for agent in self.agents]
        assert time.monotonic() - since < ENDED_S
        assert [host.running("launch") for host in self._hosts.hosts] == [[], []]
        assert read_log(self.run / "log.jsonl")[-1]["step"] < STEPS
        return both

    def completed(self):
        """Standard error of both agents, which have ended well."""
        both = [finish(agent) for agent in self.agents]
        assert [status for status, _ in both] == [0, 0], both
        return [said for _, said in both]


@pytest.mark.parametrize("number", [pytest.param(0, marks=long), 1], ids=["with the store", "without the store"])
def test_a_killed_agent_is_named_all_end_and_the_run_resumes_as_if_unbroken(hosts, shards, whole, tmp_path, number):
    launch = Launch(hosts, tmp_path / "run", shards)
    launch.reach(12)
    launch.kill_agent(number, signal.SIGKILL)
    both = launch.ended(time.monotonic())
    assert both[number][0] == -signal.SIGKILL
    assert both[1 - number][0] == 1
    name = ("left", "right")[number]
    for _, said in both if number else both[:1]:  # without the store, the other agent may be quicker to end its rank
        assert re.search(rf"the torchrun agent on {name} \(process \d+\) is gone.* after step \d+, stage: \w+", said), (
            said
        )
    launch.start(name="second")
    assert "going on from step" in launch.completed()[0]
    assert_same_run(whole, launch.run, steps=STEPS)


@long
def test_a_killed_rank_ends_both_hosts_and_the_run_resumes_as_if_unbroken(hosts, shards, whole, tmp_path):
    launch = Launch(hosts, tmp_path / "run", shards)
    launch.reach(12)
    launch.kill_rank(1)
    both = launch.ended(time.monotonic())
    assert [status for status, _ in both] == [1, 1], both
    assert re.search(r"rank 1 on right \(process \d+\) no longer answers.* last seen after step \d+", both[0][1]), both
    launch.start(name="second")
    assert "going on from step" in launch.completed()[0]
    assert_same_run(whole, launch.run, steps=STEPS)


@long
def test_an_agent_told_to_end_saves_the_run_and_ends_the_other_host_too(hosts, shards, whole, tmp_path):
    launch = Launch(hosts, tmp_path / "run", shards)
    launch.reach(12)
    launch.kill_agent(1, signal.SIGTERM)
    both = launch.ended(time.monotonic())
    assert [status for status, _ in both] == [1, 1], both
    assert re.search(r"exitcode *: 143", both[0][1]), both[0][1]
    assert heartbeat(launch.run)["state"] == "terminated"
    launch.start(name="second")
    assert f"going on from step {heartbeat(launch.run)['step']} " in launch.completed()[0]
    assert_same_run(whole, launch.run, steps=STEPS)


def test_a_cut_cable_ends_agents_and_ranks_of_both_hosts_and_the_run_resumes(hosts, shards, whole, tmp_path):
    launch = Launch(hosts, tmp_path / "run", shards)
    launch.reach(12)
    hosts.cut()
    both = launch.ended(time.monotonic())
    for status, said in both:
        assert status in (1, -signal.SIGKILL), said
        assert "intravid: error: all 2 ranks, on 2 machines from left to right, are after step" in said
        assert "the network between the machines does not go on" in said
    hosts.mend()
    launch.start(name="second")
    assert "going on from step" in launch.completed()[0]
    assert_same_run(whole, launch.run, steps=STEPS)


@long
def test_torchrun_restarts_a_killed_rank_on_both_hosts(hosts, shards, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    launch = Launch(hosts, tmp_path / "run", shards, restarts=3)
    launch.reach(12)
    launch.kill_rank(1)
    said = launch.completed()[0]
    assert re.search(r"rank 1 on right \(process \d+\) no longer answers.* last seen after step \d+", said), said
    assert "going on from step" in said
    assert_same_run(whole, launch.run, steps=STEPS)


@pytest.mark.parametrize("sent", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=long)], ids=["killed", "told"])
def test_a_host_whose_agent_has_ended_joins_the_other_again(hosts, shards, whole, tmp_path, monkeypatch, sent):
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    launch = Launch(hosts, tmp_path / "run", shards, restarts=3)
    launch.reach(12)
    launch.kill_agent(1, sent)
    assert finish(launch.agents[1])[0] == (-sent if sent is signal.SIGKILL else 1)
    launch.agents[1] = launch.start_on(1)
    said = launch.completed()[0]
    told = r"the torchrun agent on right \(process \d+\) is gone" if sent is signal.SIGKILL else ": terminated\n"
    assert re.search(told, said), said
    assert_same_run(whole, launch.run, steps=STEPS)


@long
def test_with_restarts_the_run_goes_on_by_itself_once_the_cable_is_back(hosts, shards, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    launch = Launch(hosts, tmp_path / "run", shards, restarts=3)
    launch.reach(12)
    hosts.cut()
    launch.ranks_ended()
    hosts.mend()
    for said in launch.completed():
        assert "all 2 ranks, on 2 machines from left to right, are after step" in said
    assert_same_run(whole, launch.run, steps=STEPS)
