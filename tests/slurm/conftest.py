"""A real SLURM of two virtual nodes for the tests of this folder."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.log import read_log
from launch.watch import wait_for_end
from tests.launch.runs import LIMIT_S, ROOT, TORCHRUN, complete, environment, pretrain_words
from tests.sample_videos import small_dataset

SANDBOX = Path(__file__).with_name("slurm_sandbox.sh")
STEPS = 200
LONG = os.environ.get("INTRAVID_SLURM_LONG") == "1"
"""Whether the tests that wait for minutes run too: for SLURM's own clocks, and for a machine that is lost."""


@dataclass
class Cluster:
    """The sandbox, the environment of a login node, and whether there are links between the nodes that can be cut."""

    environ: dict
    folder: Path
    netns: bool
    jobs: list = field(default_factory=list)

    def run(self, *words, check=True, limit_s=LIMIT_S):
        """A command on the login node."""
        ran = subprocess.run(
            [str(word) for word in words], cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=limit_s
        )
        assert ran.returncode == 0 or not check, f"{words} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}"
        return ran

    def intravid(self, *words, check=True):
        return self.run(sys.executable, "-m", "launch", *words, check=check)

    def sandbox(self, command, node):
        """Do something to a node."""
        self.run(SANDBOX, command, node, "--dir", self.folder)

    def controller(self, command):
        """Stop the controller, or start it from what it has saved."""
        self.run(SANDBOX, command, "--dir", self.folder)

    def start_on(self, node, words, environ):
        """A command on a node, outside of SLURM, with more in its environment: its process."""
        more = [f"{name}={value}" for name, value in environ.items()]
        return subprocess.Popen(
            [SANDBOX, "exec", node, "--dir", self.folder, "--", "env", *more, *map(str, words)],
            cwd=ROOT, env=self.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def on(self, node, *words):
        """A command on a node, to its end."""
        self.run(SANDBOX, "exec", node, "--dir", self.folder, "--", *words)

    def submit(self, run, shards, *words):
        """Submit a small pretraining on two nodes: the job."""
        said = self.intravid("submit", *run_words(run, shards), "--nodes", 2, "--time", "10", *words)
        job = Job(self, said.stdout.split()[1].rstrip(":"), run)
        self.jobs.append(job)
        return job

    def sbatch(self, run, *words):
        said = self.run("sbatch", "--parsable", *words)
        job = Job(self, said.stdout.strip(), run)
        self.jobs.append(job)
        return job


@dataclass
class Job:
    """A job of the sandbox, and its run folder."""

    cluster: Cluster
    job_id: str
    run: Path

    def state(self):
        asked = self.cluster.run("squeue", "-h", "-t", "all", "-j", self.job_id, "-o", "%T", check=False)
        return (asked.stdout.split() or ["UNKNOWN"])[0]

    def end(self):
        return wait_for_end(self, limit_s=LIMIT_S, every_s=0.3, state=self.state)

    def signal(self, name):
        self.cluster.run("scancel", f"--signal={name}", self.job_id)

    def cancel(self):
        self.cluster.run("scancel", self.job_id)

    def messages(self):
        """What rank 0 said on standard error."""
        return (self.run / "slurm" / self.job_id / f"{self.job_id}_0_log.err").read_text()

    def reach(self, step):
        """Wait for a step of the log."""
        log = self.run / "log.jsonl"
        until(lambda: log.exists() and any(record["step"] >= step for record in read_log(log)), f"step {step}")


def until(holds, what, limit_s=LIMIT_S):
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come within {limit_s} s"
        time.sleep(0.02)


def run_words(run, shards):
    """`pretrain` for a run that takes seconds on two ranks, but many steps."""
    return pretrain_words(run, shards, {"train.steps": STEPS, "train.save_every": 1000})


@pytest.fixture(scope="session")
def cluster():
    if "SLURM_JOB_ID" in os.environ:
        pytest.skip("the tests themselves run inside a SLURM job")
    folder = Path(tempfile.mkdtemp(prefix="intravid-slurm-"))  # unix sockets want a short path
    install = [] if os.environ.get("INTRAVID_SLURM_INSTALL") == "1" else ["--no-install"]
    size = ["--nodes", "3", "--node-timeout", "15"] if LONG else ["--nodes", "2"]
    # GPUs that SLURM gives out, but no device is behind them.
    command = [str(SANDBOX), "up", *size, "--gpus", "1", "--kill-wait", "3", "--dir", str(folder), *install]
    up = subprocess.run(command, capture_output=True, text=True, timeout=400)
    if up.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no SLURM sandbox: {' '.join(up.stderr.split())[-300:]}; INTRAVID_SLURM_INSTALL=1 installs it")
    environ = environment()
    environ["PATH"] += ":/usr/sbin:/sbin"
    lines = subprocess.run(["bash", "-c", f"{up.stdout}\nenv"], capture_output=True, text=True, check=True).stdout
    wanted = ("SLURM_", "GLOO_", "NCCL_")
    environ |= dict(line.split("=", 1) for line in lines.splitlines() if line.startswith(wanted))
    yield Cluster(environ, folder, netns="mode netns" in up.stderr)
    subprocess.run([str(SANDBOX), "down", "--dir", str(folder)], capture_output=True, timeout=120, check=True)


@pytest.fixture(autouse=True)
def _no_job_stays(cluster):
    yield
    for job in cluster.jobs:
        job.cluster.run("scancel", "--full", "--signal=KILL", job.job_id, check=False)
        job.cluster.run("scancel", job.job_id, check=False)
    cluster.jobs.clear()


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    small_dataset(folder, videos=24)
    return folder


@pytest.fixture(scope="session")
def unbroken(shards, tmp_path_factory):
    """Run folder of two ranks on this machine that nobody interrupted."""
    run = tmp_path_factory.mktemp("unbroken")
    complete(run_words(run, shards), under=TORCHRUN)
    return run
