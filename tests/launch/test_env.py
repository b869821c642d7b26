import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_process.errors import InputError
from launch import env

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_STEP_TASKS_PER_NODE": "3,2",
    "SLURM_JOB_NODELIST": "gpu[01-08]",
    "SLURM_TASKS_PER_NODE": "8(x8)",
    "SLURM_PROCID": "4",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}
LOCAL = {
    "SUBMITIT_EXECUTOR": "local",
    "SUBMITIT_LOCAL_JOB_ID": "123",
    "SUBMITIT_LOCAL_NTASKS": "2",
    "SUBMITIT_LOCAL_GLOBALID": "1",
    "SUBMITIT_LOCAL_LOCALID": "1",
}


def test_a_slurm_step_of_several_tasks_gives_each_its_rank():
    assert env.rank_variables(STEP) == {
        "RANK": "4",
        "WORLD_SIZE": "5",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": str(10000 + 4711 * 7 % 20000),
    }


def test_where_the_step_says_nothing_the_job_tells_nodes_and_tasks():
    job = {
        name: value for name, value in STEP.items() if name not in ("SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")
    }
    found = env.rank_variables(job)
    assert (found["MASTER_ADDR"], found["LOCAL_WORLD_SIZE"]) == ("gpu01", "8")


def test_submitits_local_executor_gives_each_task_its_rank():
    found = env.rank_variables(LOCAL)
    assert (found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"], found["LOCAL_WORLD_SIZE"]) == ("1", "2", "1", "2")
    assert found["MASTER_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HOME": "/"},
        STEP | {"RANK": "0", "WORLD_SIZE": "2"},
        STEP | {"SLURM_STEP_NUM_TASKS": "1"},
        {name: value for name, value in STEP.items() if name != "SLURM_STEP_ID"},
        LOCAL | {"SUBMITIT_LOCAL_NTASKS": "1"},
        LOCAL | {"SUBMITIT_EXECUTOR": "slurm"},
    ],
    ids=["empty", "login", "torchrun in a step", "one task", "batch shell", "one local task", "slurm without a step"],
)
def test_torchrun_and_single_processes_are_left_as_they_are(environ):
    assert env.rank_variables(environ) == {}


@pytest.mark.parametrize("missing", ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_ID"])
def test_an_incomplete_step_names_what_is_missing(missing):
    with pytest.raises(InputError, match=missing):
        env.rank_variables({name: value for name, value in STEP.items() if name != missing})


def test_the_port_changes_with_every_requeue_and_job_and_stays_below_the_ephemeral_ports():
    ports = [env.master_port(str(job), str(restarts)) for job in (1, 2, 3_000_000) for restarts in range(3)]
    assert len(set(ports)) == len(ports)
    assert all(10000 <= port < 30000 for port in ports)
    assert env.rank_variables(STEP | {"SLURM_RESTART_COUNT": "2"})["MASTER_PORT"] == str(10000 + (4711 * 7 + 2) % 20000)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("login", ["login"]),
        ("vn1,vn2", ["vn1", "vn2"]),
        ("vn[1-3]", ["vn1", "vn2", "vn3"]),
        ("gpu[08-11]", ["gpu08", "gpu09", "gpu10", "gpu11"]),
        ("gpu[01-02,7],login", ["gpu01", "gpu02", "gpu7", "login"]),
        ("r[1-2]n[1,3]", ["r1n1", "r1n3", "r2n1", "r2n3"]),
        ("a[1-2]-ib,b-c[5]", ["a1-ib", "a2-ib", "b-c5"]),
        ("0x7f000b0[1-2]", ["0x7f000b01", "0x7f000b02"]),
    ],
)
def test_node_lists_are_expanded(text, names):
    assert env.expand_nodes(text) == names


@pytest.mark.parametrize(
    ("text", "counts"), [("1", [1]), ("2(x3),1", [2, 2, 2, 1]), ("8(x2)", [8, 8]), ("4,2", [4, 2])]
)
def test_task_counts_are_expanded(text, counts):
    assert env.tasks_per_node(text) == counts


def test_a_malformed_task_count_is_refused():
    with pytest.raises(InputError, match="two each"):
        env.tasks_per_node("two each")


TWO_NODES = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}


@pytest.mark.parametrize("address", ["127.0.1.1", "127.0.0.1", None])
def test_several_nodes_whose_own_name_is_loopback_are_refused(monkeypatch, address):
    def resolve(_):
        if address is None:
            raise OSError("no such name")
        return address

    monkeypatch.setattr(socket, "gethostbyname", resolve)
    with pytest.raises(InputError, match="GLOO_SOCKET_IFNAME"):
        env.check_network(TWO_NODES)
    env.check_network(TWO_NODES | {"GLOO_SOCKET_IFNAME": "eth0"})


@pytest.mark.parametrize("environ", [{}, {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}], ids=["alone", "one machine"])
def test_one_machine_may_call_itself_what_it_likes(monkeypatch, environ):
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "127.0.1.1")
    env.check_network(environ)


def test_several_nodes_with_a_reachable_name_may_start(monkeypatch):
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "10.0.0.7")
    env.check_network(TWO_NODES)


def test_the_packages_of_one_checkout_may_start():
    env.check_one_checkout()


def test_a_folder_that_shadows_a_package_is_named(tmp_path, monkeypatch):
    other = tmp_path / "engine" / "__init__.py"
    other.parent.mkdir()
    other.touch()
    find = "importlib.util.find_spec"
    real = sys.modules["importlib.util"].find_spec
    monkeypatch.setattr(find, lambda name: SimpleNamespace(origin=str(other)) if name == "engine" else real(name))
    with pytest.raises(InputError) as refused:
        env.check_one_checkout()
    assert str(other) in str(refused.value)
    assert str(Path(env.__file__).parents[1]) in str(refused.value)


@pytest.mark.parametrize("name", ["SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"])
def test_a_job_knows_whether_it_was_started_again(name):
    assert not env.was_started_again({})
    assert not env.was_started_again({name: "0"})
    assert env.was_started_again({name: "2"})
