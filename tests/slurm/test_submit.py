import pickle
import sys
import time
from pathlib import Path

import pytest

from engine.checkpoint import latest_checkpoint
from tests.launch.runs import LIMIT_S, ROOT, assert_same_run, heartbeat
from tests.slurm.conftest import STEPS, run_words, until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


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
    assert_same_run(tmp_path, unbroken, steps=STEPS)


def test_a_job_that_the_site_does_not_requeue_ends_with_status_3(cluster, shards, tmp_path):
    """Its state is saved; the status tells this end from a failure, for scripts that submit the command again."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "scontrol").write_text("#!/bin/sh\necho 'Job requeue is disabled' >&2\nexit 1\n")
    (commands / "scontrol").chmod(0o755)
    job = cluster.submit(tmp_path, shards, "--setup", f"export PATH={commands}:$PATH")
    job.reach(5)
    job.signal("USR2")
    assert job.end() == "FAILED"
    assert "ExitCode=3:0" in cluster.run("scontrol", "show", "job", job.job_id).stdout
    assert latest_checkpoint(tmp_path).name == f"step-{heartbeat(tmp_path)['step']:09d}.pt"
    assert "the run is saved, but its job could not be requeued" in job.messages()
    result = tmp_path / "slurm" / job.job_id / f"{job.job_id}_0_result.pkl"
    assert pickle.loads(result.read_bytes())[0] == "error"


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
    script.write_text(f"#!/bin/bash\nsrun --kill-on-bad-exit=1 {sys.executable} -m launch {words}\n")
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
    assert_same_run(tmp_path, unbroken, steps=STEPS)


def test_waiting_for_a_job_that_fails_tells_where_its_log_is(cluster, shards, tmp_path):
    words = (*run_words(tmp_path, shards), "--schedule.warmup", STEPS * 2, "--nodes", 2, "--time", 10)
    said = cluster.intravid("submit", *words, "--wait", LIMIT_S, check=False)
    assert said.returncode == 1
    assert "ended as FAILED; its log:" in said.stderr
    log = Path(said.stderr.split("its log: ")[1].strip())
    assert "warmup" in log.read_text()


def test_a_job_that_slurm_refuses_is_told_in_one_paragraph(cluster, shards, tmp_path):
    words = ("submit", *run_words(tmp_path, shards), "--nodes", 2, "--partition", "nowhere")
    said = cluster.intravid(*words, check=False)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "partition nowhere is not known to this cluster, which has high, low, main" in said.stderr
    words = ("submit", *run_words(tmp_path, shards), "--nodes", 4)
    said = cluster.intravid(*words, check=False)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "SLURM refused the job:" in said.stderr
    assert "Asked for: 4 machines" in said.stderr
    words = ("submit", *run_words(tmp_path, shards), "--nodes", 2, "--gpus-per-node", 2, "--dist.device=auto")
    said = cluster.intravid(*words, check=False)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "Asked for: 2 machines, 1440 minutes, 2 GPUs on each" in said.stderr
    assert cluster.run("squeue", "-h", "-t", "all", "--name", f"intravid-{tmp_path.name}").stdout == ""


def test_a_dry_run_prints_the_script_and_writes_nothing(cluster, shards, tmp_path):
    words = ("submit", *run_words(tmp_path / "run", shards), "--nodes", 2, "--gpus-per-node", 4)
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
