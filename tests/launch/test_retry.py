import json
import os
import stat
import subprocess
import sys

import pytest

from launch import retry
from tests.launch.runs import LIMIT_S, ROOT

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "vn[1-2]"}


@pytest.fixture
def run(tmp_path):
    """A run folder with the folder of job 7."""
    (tmp_path / "slurm" / "7").mkdir(parents=True)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins for squeue, which says a state and (-s) steps, and scontrol, which notes its words."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(state, scontrol="exit 0", steps="echo 7.batch; echo 7.extern"):
        squeue = f'case " $* " in *" -s "*) {steps} ;; *) echo {state} ;; esac'
        scripts = {"squeue": squeue, "scontrol": f'echo "$@" >> {folder}/words; {scontrol}'}
        for name, script in scripts.items():
            path = folder / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return folder / "words"

    return make


def save(run, step):
    (run / "checkpoints" / f"step-{step:09d}.pt").touch()


def begin(run, limit=3, environ=JOB):
    return retry.begin(run / "slurm", limit=limit, environ=environ)


def end(run, status, *, limit=3, failed=True):
    return retry.end(run / "slurm", status, limit=limit, failed=failed, environ=JOB)


def test_progress_is_the_newest_checkpoint_or_the_number_of_shards(run):
    assert retry.progress(run) == 0
    (run / "shard-000000.lmdb").touch()
    (run / "shard-000003.lmdb").touch()
    assert retry.progress(run) == 2
    for name in ("step-000000090.pt", "step-000000120.pt", "step-000000200.pt.damaged", "latest"):
        (run / "checkpoints" / name).touch()
    assert retry.progress(run) == 120


def test_starts_without_progress_end_a_job_with_the_reason(run):
    save(run, 40)
    assert [begin(run) for _ in range(3)] == ["", "", ""]
    reason = begin(run)
    assert "3 starts of this job" in reason
    assert "vn[1-2]" in reason
    assert "still at 40" in reason
    assert (run / "slurm" / "7" / retry.GAVE_UP).read_text().strip() == reason
    assert len(retry.read_starts(run / "slurm" / "7")) == 3  # the refused one is none


def test_any_progress_begins_the_count_anew(run):
    for step in (0, 10, 10, 20, 20, 20):
        save(run, step)
        assert begin(run) == ""
    assert begin(run) != ""


def test_another_job_of_the_same_run_counts_its_own_starts(run):
    assert begin(run, limit=1) == ""
    assert begin(run, limit=1) != ""
    array = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "2"}
    assert begin(run, limit=1, environ=array) == ""


def test_a_machine_without_the_run_folder_says_so(tmp_path):
    assert "is not there on this machine" in retry.begin(tmp_path / "run" / "slurm", limit=3, environ=JOB)


def test_a_cancelled_job_does_not_begin_again(run):
    (run / "slurm" / "7" / retry.CANCELLED).touch()
    assert "cancelled" in begin(run)


@pytest.mark.parametrize("status", [1, 137, 139, 143])
def test_a_failed_job_that_gets_on_is_put_back(run, slurm, status):
    words = slurm("RUNNING")
    begin(run)
    assert "back in the queue" in end(run, status)
    assert words.read_text() == "requeue 7\n"


@pytest.mark.parametrize("status", [0, 2, 3, 130])
def test_what_no_other_start_mends_is_left(run, slurm, status):
    words = slurm("RUNNING")
    begin(run)
    assert end(run, status) == ""
    assert not words.exists()


def test_a_failed_command_that_is_no_training_is_left(run, slurm):
    words = slurm("RUNNING")
    begin(run)
    assert end(run, 1, failed=False) == ""
    assert "back in the queue" in end(run, 137, failed=False)
    assert words.read_text() == "requeue 7\n"


@pytest.mark.parametrize("name", [retry.FINAL, retry.CANCELLED])
def test_a_rank_or_the_user_may_have_the_last_word(run, slurm, name):
    words = slurm("RUNNING")
    begin(run)
    (run / "slurm" / "7" / name).write_text("2\n")
    assert end(run, 137) == ""
    assert not words.exists()
    (run / "slurm" / "7" / retry.CANCELLED).unlink(missing_ok=True)
    begin(run)
    assert "back in the queue" in end(run, 137)  # the word was about the start before


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "PENDING"])
def test_a_job_that_slurm_has_taken_in_hand_is_left_to_it(run, slurm, state):
    words = slurm(state)
    begin(run)
    assert end(run, 137) == ""
    assert not words.exists()


def test_failures_without_progress_are_not_put_back_for_ever(run, slurm):
    words = slurm("RUNNING")
    for _ in range(2):
        begin(run)
        assert "back in the queue" in end(run, 1)
    begin(run)
    assert "3 starts of this job" in end(run, 1)
    assert words.read_text() == "requeue 7\n" * 2


def test_where_scontrol_refuses_the_user_is_told(run, slurm):
    slurm("RUNNING", "echo requeue is disabled >&2; exit 1")
    begin(run)
    said = end(run, 137)
    assert "could not be requeued" in said
    assert "requeue is disabled" in said


def away(tool, times):
    """Make a stand-in fail as with no controller, so many times."""
    path = tool.with_name(f"{tool.name}-asked")
    script = tool.read_text().removeprefix("#!/bin/sh\n")
    failing = f"[ $(wc -l < {path}) -gt {times} ] || {{ echo 'Unable to contact slurm controller' >&2; exit 1; }}"
    tool.write_text(f"#!/bin/sh\necho >> {path}\n{failing}\n{script}")


@pytest.mark.parametrize("name", ["squeue", "scontrol"])
def test_a_controller_that_is_away_is_waited_for(run, slurm, monkeypatch, name):
    monkeypatch.setattr(retry, "_PAUSE_S", 0.0)
    words = slurm("RUNNING")
    away(words.with_name(name), times=3)
    begin(run)
    assert "back in the queue" in end(run, 137)
    assert words.read_text() == "requeue 7\n"


def test_a_job_goes_back_once_the_controller_knows_that_its_ranks_have_ended(run, slurm, monkeypatch):
    monkeypatch.setattr(retry, "_PAUSE_S", 0.0)
    asked = run / "bin" / "steps-asked"
    words = slurm("RUNNING", steps=f"echo >> {asked}; [ $(wc -l < {asked}) -gt 3 ] || echo 7.0; echo 7.batch")
    begin(run)
    assert "back in the queue" in end(run, 137)
    assert words.read_text() == "requeue 7\n"
    assert asked.read_text().count("\n") == 4
    monkeypatch.setattr(retry, "_STEPS_S", 0.05)
    slurm("RUNNING", steps="echo 7.0")
    assert "back in the queue" in end(run, 137)  # but not for ever


def test_a_controller_that_stays_away_is_not_waited_for_for_ever(run, slurm, monkeypatch):
    monkeypatch.setattr(retry, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(retry, "_PAUSE_S", 0.0)
    words = slurm("RUNNING")
    away(words.with_name("squeue"), times=1_000_000)
    begin(run)
    assert "could not be requeued (Unable to contact slurm controller" in end(run, 137)
    assert not words.exists()


def test_the_batch_script_needs_the_standard_library_alone(run):
    """On a compute node it runs before the environment of the job is set up, and should take no time."""
    code = (
        "import sys, launch.retry\nstatus = launch.retry.main(sys.argv[1:])\n"
        "foreign = {n.split('.')[0] for n in sys.modules} - sys.stdlib_module_names - {'launch', '__mp_main__'}\n"
        "print(status, sorted(n for n in foreign if not n.startswith(('_', 'sitecustomize'))))"
    )
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code, "begin", str(run / "slurm"), "--limit", "3"],
        cwd=ROOT, env={**os.environ, **JOB}, capture_output=True, text=True, timeout=LIMIT_S, check=True,
    )  # fmt: skip
    assert ran.stdout == "0 []\n"
    (start,) = [json.loads(line) for line in (run / "slurm" / "7" / retry.STARTS).read_text().splitlines()]
    assert (start["progress"], start["nodes"], start["restart"]) == (0, "vn[1-2]", 0)
