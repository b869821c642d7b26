import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time

import pytest

from data_process.errors import InputError, RunError
from launch import cli
from launch.job_records import JobRecord, add_record, read_records
from launch.job_status import advance, statuses, tail, telling_log
from launch.retry import CANCELLED, GAVE_UP, STARTS


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins: squeue that tells given rows, scancel that notes its words."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    words = folder / "words"

    def make(*rows):
        scripts = {"scancel": f'echo "$@" >> {words}'}
        told = "\n".join(f"*' {row.split('_')[0].split('|')[0]} '*) echo '{row}';;&" for row in rows)
        scripts["squeue"] = f'case " $* " in\n{told}\nesac'
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/bash\n{script}\n")
            (folder / name).chmod(0o755)
        return words

    make()
    return make


def log(run, key, rank, text):
    path = run / "slurm" / key / f"{key}_{rank}_log.err"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def result(run, key, rank, kind):
    (run / "slurm" / key).mkdir(parents=True, exist_ok=True)
    (run / "slurm" / key / f"{key}_{rank}_result.pkl").write_bytes(pickle.dumps((kind, None)))


def state(run, record, known=()):
    return [one.state for one in statuses(run, record, dict(known))]


def test_records_come_back_as_they_were_written(tmp_path):
    with pytest.raises(InputError, match="no job was submitted"):
        read_records(tmp_path)
    records = [JobRecord("7", ["build", "a", "b"], tasks=3), JobRecord("8", ["pretrain", "r.yaml"], after=["7"])]
    for record in records:
        add_record(tmp_path, record)
    assert read_records(tmp_path) == records
    assert records[0].keys == ["7_0", "7_1", "7_2"]
    assert records[1].keys == ["8"]


def test_what_squeue_has_forgotten_is_told_by_what_the_job_left(tmp_path):
    record = JobRecord("7", ["pretrain"], ranks=2)
    assert state(tmp_path, record) == ["LOST"]
    result(tmp_path, "7", 0, "success")
    assert state(tmp_path, record) == ["COMPLETED"]
    result(tmp_path, "7", 1, "error")
    assert state(tmp_path, record) == ["FAILED"]
    (tmp_path / "slurm" / "7" / CANCELLED).touch()
    assert state(tmp_path, record) == ["CANCELLED"]
    assert state(tmp_path, record, {"7": ("RUNNING", "")}) == ["RUNNING"]


def test_tasks_of_an_array_are_told_apart(tmp_path):
    known = {"7_0": ("COMPLETED", ""), "7_1": ("PENDING", "Resources")}
    result(tmp_path, "7_2", 0, "error")
    assert state(tmp_path, JobRecord("7", ["build"], tasks=3), known) == ["COMPLETED", "PENDING", "FAILED"]


def test_a_failed_job_without_a_log_points_at_its_folder(tmp_path):
    record = JobRecord("7", ["pretrain"])
    (one,) = statuses(tmp_path, record, {"7": ("FAILED", "NonZeroExitCode")})
    assert "do not see this folder" in one.reason
    log(tmp_path, "7", 0, "intravid: error: something else\n")
    (one,) = statuses(tmp_path, record, {"7": ("FAILED", "NonZeroExitCode")})
    assert one.reason == "NonZeroExitCode"
    (tmp_path / "slurm" / "7" / GAVE_UP).write_text("3 starts ended without progress\n")
    (one,) = statuses(tmp_path, record, {"7": ("FAILED", "NonZeroExitCode")})
    assert one.reason == "3 starts ended without progress"


def test_the_telling_log_is_that_of_the_rank_that_failed_first(tmp_path):
    zero = log(tmp_path, "7", 0, "training: 5/9\n")
    log(tmp_path, "7", 1, "training\n")
    assert telling_log(zero.parent) == zero
    lost = "intravid: error: another process of this run does not answer any more (gloo)\n"
    zero.write_text(lost)
    cause = log(tmp_path, "7", 3, "[rank 3] \nintravid: error: node vn2: the shards cannot be opened\n")
    assert telling_log(zero.parent) == cause
    assert telling_log(tmp_path / "nothing") is None


def test_a_tail_shows_a_progress_display_in_its_last_state(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"first\n\rtraining: 1/9\rtraining: 2/9\n\nlast \xff\n")
    assert tail(path, 2) == ["training: 2/9", "last \N{REPLACEMENT CHARACTER}"]


def write_run(run, *, train, steps):
    (run / "config.yaml").write_text(
        json.dumps({"train": train, "data": {"root": "x", "split": "train", "subset": ""}})
    )
    lines = [json.dumps({"step": step, "step_s": 0.5, "clips_per_s": 64.0}) for step in steps]
    (run / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 99, "st')
    (run / "heartbeat.json").write_text("{}")


def test_how_far_a_run_is_follows_from_its_files(tmp_path, shards):
    assert advance(tmp_path) is None
    write_run(tmp_path, train={"steps": 100, "epochs": None, "global_batch": 4}, steps=range(1, 31))
    now = advance(tmp_path)
    assert (now.step, now.total, now.step_s, now.clips_per_s) == (30, 100, 0.5, 64.0)
    assert now.eta_s == 35.0
    assert now.age_s >= 0
    write_run(tmp_path, train={"steps": None, "epochs": 10, "global_batch": 4}, steps=[6])
    assert advance(tmp_path).eta_s is None  # the data are not visible from here
    plain = json.loads((tmp_path / "config.yaml").read_text())
    plain["data"]["root"] = str(shards)
    (tmp_path / "config.yaml").write_text(json.dumps(plain))
    assert advance(tmp_path).total == 10 * (16 // 4)


def test_the_jobs_of_a_run_are_shown_with_step_speed_and_log(slurm, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    add_record(run, JobRecord("7", ["pretrain", "r.yaml"]))
    add_record(run, JobRecord("8", ["knn", str(run)], after=["7"]))
    slurm("7|RUNNING|None", "8|PENDING|Dependency")
    write_run(run, train={"steps": 100, "epochs": None, "global_batch": 4}, steps=[30])
    log(run, "7", 0, "".join(f"line {number}\n" for number in range(20)))
    starts = [{"progress": 0, "nodes": "vn1"}, {"progress": 20, "nodes": "vn2"}]
    (run / "slurm" / "7" / STARTS).write_text("\n".join(json.dumps(start) for start in starts))
    assert cli.main(["jobs", str(run), "--lines", "2"]) == 0
    said = capsys.readouterr().out
    assert "job 7  pretrain  RUNNING, 2 starts" in said
    assert "job 8  knn       PENDING, after 7" in said
    assert "step 30 of 100, 0.5 s a step, 64 clips/s, 35 s to go" in said
    assert said.endswith("  line 18\n  line 19\n")
    assert cli.main(["jobs", "--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"{run}: knn PENDING (job 8)")


def test_cancel_ends_what_waits_or_runs_the_last_first(slurm, tmp_path, capsys):
    for job_id in ("6", "7", "8"):
        add_record(tmp_path, JobRecord(job_id, ["pretrain"]))
    words = slurm("6|COMPLETED|None", "7|RUNNING|None", "8|PENDING|Dependency")
    assert cli.main(["cancel", str(tmp_path)]) == 0
    assert words.read_text() == "8\n7\n"
    assert not (tmp_path / "slurm" / "6" / CANCELLED).exists()
    assert (tmp_path / "slurm" / "7" / CANCELLED).exists()
    assert "job 8: cancelled\njob 7: cancelled" in capsys.readouterr().out
    slurm("6|COMPLETED|None", "7|CANCELLED|None", "8|CANCELLED|None")
    assert cli.main(["cancel", str(tmp_path)]) == 0
    assert "no job of" in capsys.readouterr().out


def test_while_the_controller_is_away_no_job_is_taken_for_lost(slurm, tmp_path, capsys):
    from launch.cancel import cancel_jobs

    slurm()
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\necho Unable to contact slurm controller >&2\nexit 1\n")
    (tmp_path / "bin" / "scancel").write_text("#!/bin/sh\necho Unable to contact slurm controller >&2\nexit 1\n")
    add_record(tmp_path, JobRecord("7", ["build"], tasks=2))
    add_record(tmp_path, JobRecord("8", ["pretrain"]))
    result(tmp_path, "7_1", 0, "success")
    assert cli.main(["jobs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[1:4] for line in shown] == [
        ["7_0", "build", "UNREACHED,"], ["7_1", "build", "COMPLETED,"], ["8", "pretrain", "UNREACHED,"],
    ]  # fmt: skip
    assert shown[0].endswith("the controller of the cluster does not answer; jobs go on without it")
    with pytest.raises(RunError, match="scancel 8 failed"):
        cancel_jobs(tmp_path)


def test_a_job_of_this_machine_is_cancelled_here_and_only_here(tmp_path, capsys):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        here = JobRecord(str(sleeper.pid), ["pretrain"], host=socket.gethostname())
        add_record(tmp_path, here)
        assert state(tmp_path, here) == ["RUNNING"]
        assert cli.main(["cancel", str(tmp_path)]) == 0
        assert sleeper.wait(timeout=60) == -signal.SIGTERM
    finally:
        sleeper.kill()
        sleeper.wait()
    assert state(tmp_path, JobRecord(str(os.getpid()), ["pretrain"], host="elsewhere")) == ["LOST"]


def test_a_cluster_that_refuses_to_cancel_is_told(slurm, tmp_path):
    from launch.cancel import cancel_jobs

    add_record(tmp_path, JobRecord("7", ["pretrain"], time=time.time()))
    slurm("7|RUNNING|None")
    (tmp_path / "bin" / "scancel").write_text("#!/bin/sh\necho Access denied >&2\nexit 1\n")
    with pytest.raises(RunError, match=r"scancel 7 failed \(Access denied\)"):
        cancel_jobs(tmp_path)
