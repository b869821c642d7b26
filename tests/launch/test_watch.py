import pickle
from types import SimpleNamespace

import pytest

from data_process.errors import RunError
from launch import watch

AWAY = "Unable to contact slurm controller (connect failure)"


@pytest.fixture
def job(tmp_path):
    return SimpleNamespace(job_id="7", paths=SimpleNamespace(result_pickle=tmp_path / "result.pkl"))


def wait(job, states, limit_s=10.0):
    seen = iter(states)
    return watch.wait_for_end(job, limit_s=limit_s, every_s=0.0, state=lambda: next(seen))


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"])
def test_a_job_is_waited_for_through_requeues_until_its_end(job, end):
    assert wait(job, ["PENDING", "RUNNING", "COMPLETING", "PENDING", "RUNNING", end]) == end


def test_a_job_that_squeue_misses_for_a_moment_is_not_lost(job):
    assert wait(job, ["UNKNOWN", "UNKNOWN", "PENDING", "UNKNOWN", "RUNNING", "UNKNOWN", "COMPLETED"]) == "COMPLETED"


@pytest.mark.parametrize(("kind", "state"), [("success", "COMPLETED"), ("error", "FAILED")])
def test_a_job_that_squeue_has_forgotten_is_told_by_its_result(job, kind, state):
    job.paths.result_pickle.write_bytes(pickle.dumps((kind, None)))
    assert wait(job, ["RUNNING"] + ["UNKNOWN"] * 3) == state


def test_a_job_that_nobody_knows_and_left_no_result_is_unknown(job):
    assert wait(job, ["UNKNOWN"] * 3) == "UNKNOWN"


def test_waiting_ends_at_its_limit(job):
    with pytest.raises(RunError, match="job 7 is still RUNNING"):
        watch.wait_for_end(job, limit_s=0.05, every_s=0.01, state=lambda: "RUNNING")


def test_a_controller_that_is_away_is_waited_for(job, tmp_path, monkeypatch):
    assert wait(job, ["RUNNING", *["UNREACHED"] * 9, "RUNNING", "COMPLETED"]) == "COMPLETED"
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\necho 'slurm_load_jobs error: {AWAY}' >&2\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert watch.job_state("7") == "UNREACHED"
    squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n")
    assert watch.job_state("7") == "UNKNOWN"


def test_a_machine_without_squeue_knows_no_job(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert watch.job_state("7") == "UNKNOWN"
