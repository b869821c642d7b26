import os
import pickle
import stat
import subprocess
import sys

import pytest
from submitit.helpers import DelayedSubmission

from data_process.errors import InputError, RunError
from launch import cli
from launch.cluster import ClusterConfig
from launch.submit import CommandJob, make_executor, sbatch_text, submit
from tests.launch.runs import LIMIT_S, ROOT, complete, environment, finish, heartbeat, pretrain_words, start


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins for sbatch and srun; sbatch notes its environment and refuses or accepts."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)

    def make(script):
        for name in ("sbatch", "srun"):
            path = folder / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    make(f"env > {folder}/environ; echo Submitted batch job 17")
    make.environ = lambda: dict(line.partition("=")[::2] for line in (folder / "environ").read_text().splitlines())
    return make


def test_the_script_asks_for_what_the_configuration_says(slurm, tmp_path):
    cluster = ClusterConfig(
        nodes=2, gpus_per_node=4, cpus_per_task=6, mem_gb=64, time="2:00:00", partition="gpu", account="lab",
        qos="high", constraint="h100", setup=("export NCCL_DEBUG=WARN",), signal_delay_s=200,
        extra={"exclusive": "user"},
    )  # fmt: skip
    lines = sbatch_text(cluster, tmp_path / "%j", name="intravid-run").splitlines()
    for option in (
        "nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "cpus-per-task=6", "mem=64GB", "time=120", "partition=gpu",
        "account=lab", "qos=high", "constraint=h100", "signal=USR2@200", "exclusive=user", "requeue",
        "open-mode=append", "job-name=intravid-run",
    ):  # fmt: skip
        assert f"#SBATCH --{option}" in lines
    assert lines.index("export NCCL_DEBUG=WARN") < next(n for n, line in enumerate(lines) if line.startswith("srun "))
    assert any("--kill-on-bad-exit=1" in line and "--open-mode=append" in line for line in lines)


def test_what_is_not_asked_for_is_left_to_the_cluster(slurm, tmp_path):
    text = sbatch_text(ClusterConfig(), tmp_path / "%j", name="run")
    assert not [
        name for name in ("partition", "account", "qos", "constraint", "gpus", "mem", "cpus") if f"--{name}" in text
    ]


def test_a_submission_from_inside_a_job_hides_that_job_and_keeps_the_way_to_the_cluster(slurm, tmp_path, monkeypatch):
    inside = {"SLURM_JOB_ID": "3", "SLURM_NTASKS": "8", "RANK": "1", "SLURM_CONF": "/etc/slurm.conf"}
    for name, value in inside.items():
        monkeypatch.setenv(name, value)
    (job,) = submit(CommandJob(["pretrain"]), ClusterConfig(), tmp_path / "%j", name="run")
    assert job.job_id == "17"
    seen = slurm.environ()
    assert {name: seen.get(name) for name in inside} == {**dict.fromkeys(inside), "SLURM_CONF": "/etc/slurm.conf"}
    assert {name: os.environ[name] for name in inside} == inside


def test_a_login_shell_keeps_its_own_defaults(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "lab")
    submit(CommandJob(["pretrain"]), ClusterConfig(), tmp_path / "%j", name="run")
    assert slurm.environ()["SBATCH_ACCOUNT"] == "lab"


def test_a_refused_job_is_wrong_input_in_slurms_words(slurm, tmp_path):
    slurm("echo 'sbatch: error: invalid account' >&2; exit 1")
    with pytest.raises(InputError, match="invalid account"):
        submit(CommandJob(["pretrain"]), ClusterConfig(), tmp_path / "%j", name="run")


def test_without_sbatch_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="--local"):
        make_executor(ClusterConfig(), tmp_path / "%j", name="run")


def test_one_machine_cannot_be_several_nodes(tmp_path):
    with pytest.raises(InputError, match=r"launch\.nodes is 2"):
        make_executor(ClusterConfig(nodes=2), tmp_path / "%j", name="run", local=True)


def test_a_job_is_pickled_by_name_and_continues_as_itself():
    job = CommandJob(["pretrain", "recipe.yaml"])
    assert pickle.loads(pickle.dumps(job)) == job
    assert len(pickle.dumps(job)) < 300  # plain words; code is imported when the job starts
    assert job.checkpoint().function == job


def test_a_job_that_is_queued_again_forgets_where_it_began():
    job = CommandJob(["pretrain", "--resume=none", "--start-over", "recipe.yaml", "--run_dir=x"])
    assert job.checkpoint().function.arguments == ["pretrain", "recipe.yaml", "--run_dir=x"]


def test_a_command_that_fails_fails_its_job(capsys):
    with pytest.raises(RunError, match="status 2"):
        CommandJob(["pretrain", "nowhere.yaml"])()
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("status", [2, 3, 143])
def test_a_job_records_its_failure_and_leaves_with_the_status_of_its_command(tmp_path, status):
    """The process that submitit starts for a rank, with a command that ends at once."""
    job = tmp_path / "job.py"
    job.write_text(
        "import sys\nfrom launch import cli\nfrom submitit.core.submission import process_job\n"
        f"cli.main = lambda words: {status}\nprocess_job(sys.argv[1])\n"
    )
    submitted = tmp_path / "9_submitted.pkl"
    DelayedSubmission(CommandJob(["pretrain", "recipe.yaml"])).dump(submitted)
    of_submitit = {"EXECUTOR": "local", "LOCAL_JOB_ID": "9", "LOCAL_GLOBALID": "0", "LOCAL_NTASKS": "1"}
    variables = {f"SUBMITIT_{name}": value for name, value in of_submitit.items()}
    ran = subprocess.run(
        [sys.executable, str(job), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S,
        env=environment() | variables | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ran.returncode == status, ran.stderr
    kind, told = pickle.loads((tmp_path / "9_0_result.pkl").read_bytes())
    assert kind == "error"
    assert f"intravid pretrain recipe.yaml ended with status {status}" in told


def submit_words(run, shards, settings=()):
    return ["submit", *pretrain_words(run, shards, settings)]


def test_options_of_the_command_line_come_before_those_of_the_recipe(slurm, shards, tmp_path, capsys):
    words = submit_words(tmp_path / "run", shards, {"launch.nodes": 4, "launch.partition": "low"})
    setup = "export A='b, c'"
    options = ["--nodes", "2", "--time", "30", "--setup", setup, "--sbatch", "nice=5", "--signal-delay-s", "60"]
    assert cli.main([*words, *options, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in ("nodes=2", "partition=low", "time=30", "nice=5", "signal=USR2@60"):
        assert f"#SBATCH --{line}" in lines
    assert setup in lines


def test_the_job_gets_the_whole_command(slurm, shards, tmp_path, capsys):
    run = tmp_path / "run"
    words = submit_words(run, shards, {"optim.lr": 0.5})
    assert cli.main([*words, "--nodes", "2", "--resume", "runs/other", "--start-over"]) == 0
    assert f"job 17: logs in {run}/slurm/17, run in {run}" in capsys.readouterr().out
    job = pickle.loads((run / "slurm" / "17" / "17_submitted.pkl").read_bytes()).function
    assert job.arguments[0] == "pretrain"
    assert os.path.isabs(job.arguments[1])
    assert {"--optim.lr=0.5", "--launch.nodes=2", f"--run_dir={run}"} <= set(job.arguments)
    assert {"--resume=runs/other", "--start-over"} <= set(job.arguments)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--nodes", "3"], "train.global_batch (8) must be divisible by the 3 ranks"),
        (["--nodes", "2", "--train.accumulate=3"], "2 ranks of the job times the 3 passes of train.accumulate"),
        (["--nodes", "two"], "launch.nodes: expected int, got two"),
        (["--time", "1"], "launch.time (1, 1 min) leaves no time to train"),
        (["--sbatch", "nice"], "--sbatch nice: expected NAME=VALUE"),
        (["--optim.lrr", "1"], "did you mean optim.lr?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_input_is_told_before_a_job_is_queued(slurm, shards, tmp_path, capsys, options, told):
    slurm("echo a job was queued >&2; exit 9")
    assert cli.main([*submit_words(tmp_path / "run", shards), *options]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "a job was queued" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_local_job_of_two_ranks_runs_to_its_end(shards, tmp_path):
    words = submit_words(tmp_path, shards, {"train.steps": 5})
    complete([*words, "--tasks-per-node", "2", "--local", "--wait", "120"])
    assert heartbeat(tmp_path)["state"] == "finished"
    assert len(list((tmp_path / "slurm").glob("*/*_result.pkl"))) == 2


@pytest.mark.slow
def test_a_local_job_that_fails_tells_where_its_log_is(shards, tmp_path):
    words = [*submit_words(tmp_path / "run", shards), "--schedule.warmup", "1000"]
    status, said = finish(start([*words, "--local", "--wait", "120"]))
    assert status == 1
    assert "ended as FAILED; its log:" in said
