import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.log import EXACT_KEYS, read_log
from tests.slurm.conftest import LIMIT_S, ROOT, run_words, until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

STEPS = 200


@pytest.fixture(scope="session")
def unbroken(cluster, shards, tmp_path_factory):
    """Run folder of two ranks on this machine that nobody interrupted."""
    run = tmp_path_factory.mktemp("unbroken")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    subprocess.run(
        [*command, "-m", "launch", "pretrain", *run_words(run, shards)],
        cwd=ROOT, env=environ | {"OMP_NUM_THREADS": "1"}, check=True, timeout=LIMIT_S, capture_output=True,
    )  # fmt: skip
    return run


def assert_same_run(one, other):
    states = [read_checkpoint(latest_checkpoint(run)) for run in (one, other)]
    assert [state.step for state in states] == [STEPS, STEPS]
    for left, right in ((states[0].method, states[1].method), (states[0].optimizer, states[1].optimizer)):
        assert_same_values(left, right)
    logs = [
        [{key: record[key] for key in EXACT_KEYS} for record in read_log(run / "log.jsonl")] for run in (one, other)
    ]
    assert [record["step"] for record in logs[0]] == list(range(1, STEPS + 1))
    assert logs[0] == logs[1]


def assert_same_values(left, right):
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            assert_same_values(left[name], right[name])
    else:
        assert left == right


def heartbeat(run):
    return json.loads((run / "heartbeat.json").read_text())


def test_a_job_told_by_usr2_is_requeued_and_ends_as_if_unbroken(cluster, shards, unbroken, tmp_path):
    job = cluster.submit(tmp_path, shards)
    job.reach(5)
    job.signal("USR2")
    until(lambda: heartbeat(tmp_path)["state"] == "requeue", "the requeue")
    stopped_at = heartbeat(tmp_path)["step"]
    assert 5 <= stopped_at < STEPS
    assert latest_checkpoint(tmp_path).name == f"step-{stopped_at:09d}.pt"
    assert not list((tmp_path / "slurm" / job.job_id).glob("*_result.pkl"))  # a job that goes on has no result

    assert job.end() == "COMPLETED"
    assert f"going on from step {stopped_at} " in job.messages()
    assert cluster.run("scontrol", "show", "job", job.job_id).stdout.count("Restarts=1") == 1
    results = [pickle.loads(path.read_bytes()) for path in (tmp_path / "slurm" / job.job_id).glob("*_result.pkl")]
    assert [kind for kind, _ in results] == ["success", "success"]
    assert_same_run(tmp_path, unbroken)


def test_a_cancelled_job_is_saved_and_stays_cancelled(cluster, shards, tmp_path):
    job = cluster.submit(tmp_path, shards)
    job.reach(5)
    job.cancel()
    assert job.end() == "CANCELLED"
    until(lambda: heartbeat(tmp_path)["state"] == "terminated", "the end")
    stopped = heartbeat(tmp_path)
    assert latest_checkpoint(tmp_path).name == f"step-{stopped['step']:09d}.pt"
    time.sleep(8)  # a requeued job would be running again: it may start after five seconds
    assert job.state() == "CANCELLED"
    assert heartbeat(tmp_path) == stopped


def test_a_job_of_plain_srun_requeues_itself(cluster, shards, unbroken, tmp_path):
    script = tmp_path / "job.sh"
    words = " ".join(run_words(tmp_path, shards))
    script.write_text(f"#!/bin/bash\nsrun --kill-on-bad-exit=1 {sys.executable} -m launch pretrain {words}\n")
    log = tmp_path / "job.log"
    asked = (
        "--nodes=2",
        "--ntasks-per-node=1",
        "--requeue",
        "--open-mode=append",
        f"--output={log}",
        f"--chdir={ROOT}",
    )
    job = cluster.sbatch(tmp_path, *asked, script)
    job.reach(5)
    job.signal("USR2")
    until(lambda: heartbeat(tmp_path)["state"] == "requeue", "the requeue")
    stopped_at = heartbeat(tmp_path)["step"]
    assert job.end() == "COMPLETED"
    assert f"going on from step {stopped_at} " in log.read_text()
    assert_same_run(tmp_path, unbroken)


def test_waiting_for_a_job_that_fails_tells_where_its_log_is(cluster, tmp_path):
    run = tmp_path / "run"
    said = cluster.intravid(
        "submit", "pretrain", *run_words(run, tmp_path / "nothing"), "--nodes", 2, "--time", 10, "--wait", LIMIT_S,
        check=False,
    )  # fmt: skip
    assert said.returncode == 1
    assert "ended as FAILED; its log:" in said.stderr
    log = Path(said.stderr.split("its log: ")[1].strip())
    assert "nothing" in log.read_text()


def test_a_job_that_slurm_refuses_is_told_in_one_paragraph(cluster, shards, tmp_path):
    words = ("submit", "pretrain", *run_words(tmp_path, shards), "--nodes", 2, "--partition", "nowhere")
    said = cluster.intravid(*words, check=False)
    assert said.returncode == 2
    *of_sbatch, ours = said.stderr.strip().splitlines()
    assert all(line.startswith("sbatch: error:") for line in of_sbatch)
    assert ours.startswith("intravid: error: SLURM refused the job:")
    assert "partition" in ours


def test_a_dry_run_prints_the_script_and_writes_nothing(cluster, shards, tmp_path):
    words = ("submit", "pretrain", *run_words(tmp_path / "run", shards), "--nodes", 2, "--gpus-per-node", 4)
    said = cluster.intravid(*words, "--sbatch", "nice=100", "--setup", "export NCCL_DEBUG=WARN", "--dry-run")
    for line in (
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=4",
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --signal=USR2@120",
        "#SBATCH --time=1440",
        "#SBATCH --nice=100",
        "export NCCL_DEBUG=WARN",
    ):
        assert line in said.stdout.splitlines()
    assert "--kill-on-bad-exit=1" in said.stdout
    assert list(tmp_path.iterdir()) == []
