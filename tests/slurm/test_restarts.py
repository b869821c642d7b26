import json
import os

import pytest

from engine.checkpoint import latest_checkpoint
from launch.retry import GAVE_UP, read_starts
from tests.launch.runs import assert_same_run, heartbeat
from tests.slurm.conftest import LONG, STEPS, run_words, until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


CONTROLLER_S = 300
"""For a controller that was away to hear of all that has ended meanwhile: the machines try once a minute."""


def kill_rank(cluster, run, rank):
    (path,) = run.glob(f"alive/*/rank-{rank:04d}")
    beat = json.loads(path.read_text())
    if cluster.netns:
        cluster.on(beat["host"], "kill", "-9", beat["pid"])
    else:
        os.kill(beat["pid"], 9)


def test_a_killed_rank_and_a_requeue_from_outside_leave_no_trace(cluster, shards, unbroken, tmp_path):
    job = cluster.submit(tmp_path, shards, "--train.save_every=20")
    job.reach(25)
    kill_rank(cluster, tmp_path, 1)
    until(lambda: len(read_starts(tmp_path / "slurm" / job.job_id)) == 2, "the second start")
    saved = read_starts(tmp_path / "slurm" / job.job_id)[1]["progress"]
    assert saved >= 20
    assert "the ranks ended with status 137; the job is back in the queue" in job.messages()
    until(lambda: f"going on from step {saved} " in job.messages(), "the resumption")
    job.reach(saved + 20)
    cluster.run("scontrol", "requeue", job.job_id)
    until(lambda: len(read_starts(tmp_path / "slurm" / job.job_id)) == 3, "the third start")
    assert job.end() == "COMPLETED"
    assert_same_run(tmp_path, unbroken, steps=STEPS)


def test_starts_without_progress_end_the_job_with_the_reason(cluster, shards, tmp_path):
    job = cluster.submit(tmp_path, shards, "--optim.lr=1e30", "--fruitless-starts", 2)
    assert job.end() == "FAILED"
    assert len(read_starts(tmp_path / "slurm" / job.job_id)) == 2
    reason = (tmp_path / "slurm" / job.job_id / GAVE_UP).read_text().strip()
    assert reason.startswith("2 starts of this job")
    shown = cluster.intravid("jobs", tmp_path).stdout
    assert reason in shown
    assert f"job {job.job_id}  pretrain  FAILED, 2 starts" in shown
    assert "is infinite or NaN" in job.messages()


def lose_a_rank_without_controller(cluster, job, meanwhile=lambda: None):
    job.reach(25)
    cluster.controller("stop-ctl")
    try:
        job.reach(45)  # the job needs none
        kill_rank(cluster, job.run, 1)
        meanwhile()
    finally:
        cluster.controller("start-ctl")


def test_a_rank_lost_while_the_controller_restarts_leaves_no_trace(cluster, shards, unbroken, tmp_path):
    job = cluster.submit(tmp_path, shards, "--train.save_every=20")
    lose_a_rank_without_controller(cluster, job)
    until(lambda: len(read_starts(tmp_path / "slurm" / job.job_id)) == 2, "the second start", CONTROLLER_S)
    saved = read_starts(tmp_path / "slurm" / job.job_id)[1]["progress"]
    assert saved >= 40
    assert job.end() == "COMPLETED"
    assert f"going on from step {saved} " in job.messages()
    assert_same_run(tmp_path, unbroken, steps=STEPS)


@pytest.mark.skipif(not LONG, reason="takes minutes; INTRAVID_SLURM_LONG=1 runs it")
@pytest.mark.timeout(500)
def test_a_controller_may_be_away_for_a_minute(cluster, shards, unbroken, tmp_path):
    def look():
        shown = cluster.intravid("jobs", tmp_path).stdout  # squeue alone takes 20 s to give up
        assert f"job {job.job_id}  pretrain  UNREACHED" in shown
        assert "the controller of the cluster does not answer" in shown
        said = cluster.intravid("submit", *run_words(tmp_path / "other", shards), check=False)
        assert said.returncode == 2
        assert "Unable to contact slurm controller" in said.stderr
        assert said.stderr.count("\n") == 1

    job = cluster.submit(tmp_path, shards, "--train.save_every=20")
    lose_a_rank_without_controller(cluster, job, look)
    until(lambda: len(read_starts(tmp_path / "slurm" / job.job_id)) == 2, "the second start", CONTROLLER_S)
    saved = read_starts(tmp_path / "slurm" / job.job_id)[1]["progress"]
    assert saved >= 40
    assert job.end() == "COMPLETED"
    assert f"going on from step {saved} " in job.messages()
    assert_same_run(tmp_path, unbroken, steps=STEPS)


@pytest.mark.skipif(not LONG, reason="takes most of a minute; INTRAVID_SLURM_LONG=1 runs it")
def test_ranks_under_torchrun_are_saved_and_requeued_like_others(cluster, shards, unbroken, tmp_path):
    job = cluster.submit(tmp_path, shards, "--launcher", "torchrun")
    job.reach(5)
    job.signal("USR2")
    until(lambda: heartbeat(tmp_path)["state"] == "requeue", "the requeue")
    stopped_at = heartbeat(tmp_path)["step"]
    assert latest_checkpoint(tmp_path).name == f"step-{stopped_at:09d}.pt"
    assert job.end() == "COMPLETED"
    assert f"going on from step {stopped_at} " in job.messages()
    assert_same_run(tmp_path, unbroken, steps=STEPS)


def test_a_cancelled_chain_ends_and_nothing_starts_again(cluster, shards, tmp_path):
    job = cluster.submit(tmp_path, shards, "--then", "knn", tmp_path)
    job.reach(5)
    said = cluster.intravid("cancel", tmp_path).stdout
    assert [line.split()[1].rstrip(":") for line in said.splitlines()] == [str(int(job.job_id) + 1), job.job_id]
    assert job.end() == "CANCELLED"
    shown = cluster.intravid("jobs", tmp_path, "--lines", 3).stdout
    assert f"job {job.job_id}  pretrain  CANCELLED" in shown
    assert f"job {int(job.job_id) + 1}  knn       CANCELLED" in shown
    assert len(read_starts(tmp_path / "slurm" / job.job_id)) == 1
