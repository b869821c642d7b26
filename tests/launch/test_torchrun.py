import os
import signal
import subprocess
import sys

from launch.torchrun import torchrun_command
from tests.launch.runs import LIMIT_S, ROOT, environment

STEP = {"SLURM_JOB_ID": "41", "SLURM_JOB_NODELIST": "gpu[07-08]", "SLURM_NODEID": "1", "SLURM_RESTART_COUNT": "2"}


def option(command, name):
    return command[command.index(name) + 1]


def test_machines_meet_at_the_first_and_never_in_the_rendezvous_of_an_earlier_start():
    command = torchrun_command(["pretrain", "x.yaml"], 8, STEP)
    assert option(command, "--nnodes") == "2"
    assert option(command, "--nproc-per-node") == "8"
    assert option(command, "--rdzv-id") == "41-2"
    host, port = option(command, "--rdzv-endpoint").split(":")
    assert host == "gpu07"
    assert 10000 <= int(port) < 30000
    assert option(command, "--rdzv-conf") == "is_host=0"
    assert option(torchrun_command([], 8, {**STEP, "SLURM_NODEID": "0"}), "--rdzv-conf") == "is_host=1"
    assert command[-2:] == ["pretrain", "x.yaml"]
    before = torchrun_command([], 8, {**STEP, "SLURM_RESTART_COUNT": "1"})
    assert option(before, "--rdzv-endpoint") != option(command, "--rdzv-endpoint")


def test_one_machine_without_slurm_stands_alone():
    command = torchrun_command(["pretrain"], 2, {})
    assert "--standalone" in command
    assert "--rdzv-endpoint" not in command


AGENT = """\
import os, signal, sys, time
print(signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN, flush=True)
if sys.argv[1:] != ["child"]:
    import subprocess
    subprocess.run([sys.executable, __file__, "child"])
    while not os.path.exists(__file__ + ".go"):
        time.sleep(0.02)
"""
"""A stand-in for torchrun and its worker: both tell whether they ignore USR2."""

PARENT = """\
import signal, sys
from launch import torchrun
torchrun.torchrun_command = lambda arguments, ranks, environ: [sys.executable, sys.argv[1]]
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(77))  # as submitit's, which would requeue the job unsaved
print("status", torchrun.run_torchrun(["pretrain"], 2), flush=True)
"""


def test_usr2_ends_neither_the_agent_nor_the_process_that_waits_for_it(tmp_path):
    agent = tmp_path / "agent.py"
    agent.write_text(AGENT)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(agent)], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    told = [parent.stdout.readline().strip() for _ in range(2)]
    os.killpg(parent.pid, signal.SIGUSR2)
    (tmp_path / "agent.py.go").touch()
    said, _ = parent.communicate(timeout=LIMIT_S)
    assert told == ["True", "True"]
    assert said == "status 0\n"


def test_an_agent_that_was_killed_is_told_as_a_shell_tells_it(tmp_path):
    agent = tmp_path / "agent.py"
    agent.write_text("import os\nos.kill(os.getpid(), 9)\n")
    said = subprocess.run(
        [sys.executable, "-c", PARENT, str(agent)], cwd=ROOT, env=environment(), capture_output=True, text=True,
        timeout=LIMIT_S,
    )  # fmt: skip
    assert said.stdout == "status 137\n"
