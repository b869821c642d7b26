import pickle
import re
import subprocess

import pytest

from launch import cli, stages
from launch.job_records import read_records
from tests.launch.runs import RECIPE, ROOT, TINY, pretrain_words


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A stand-in for sbatch that numbers jobs from 21 on and keeps their scripts; of those tested it keeps none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for name in ("SLURM_JOB_ID", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(ROOT)
    script = f"""\
        if [ "$1" = --test-only ]; then
            grep -q partition=closed || exit 0
            echo "sbatch: error: closed" >&2; exit 1
        fi
        number=$((21 + $(ls {folder}/*.sbatch 2>/dev/null | wc -l)))
        cp "${{@: -1}}" {folder}/$number.sbatch; echo Submitted batch job $number"""
    for name, text in {"sbatch": script, "srun": ""}.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


def options(path):
    """Option to value of a script."""
    lines = (line for line in path.read_text().splitlines() if line.startswith("#SBATCH --"))
    return dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines)


def chain(tmp_path, *first, last=()):
    (tmp_path / "videos").mkdir(exist_ok=True)
    shards, run = tmp_path / "new-shards", tmp_path / "run"
    build = ["build", tmp_path / "videos", shards, "--short-side", "48", "--array", 3, "--time", 30, *first]
    train = [*pretrain_words(run, shards), "--nodes", 2, "--setup", "export A=1"]
    return [str(word) for word in ["submit", *build, "--then", *train, "--then", "knn", run, "--controls", *last]]


def job(tmp_path, folder, key):
    return pickle.loads((tmp_path / folder / "slurm" / key / f"{key}_submitted.pkl").read_bytes()).function


def test_each_stage_of_a_chain_waits_for_the_one_before(sbatch, tmp_path, capsys):
    assert cli.main(chain(tmp_path, "--partition", "big")) == 0
    build, train, knn = (options(sbatch / f"{number}.sbatch") for number in (21, 22, 23))
    assert build["array"] == "0-2%3"
    assert "dependency" not in build
    assert train["dependency"] == "afterok:21"
    assert knn["dependency"] == "afterok:22"
    assert train["kill-on-invalid-dep"] == knn["kill-on-invalid-dep"] == "yes"
    assert [one["partition"] for one in (build, train, knn)] == ["big"] * 3
    assert [one.get("nodes", "1") for one in (build, train, knn)] == ["1", "2", "1"]
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["job 21", "job 22", "job 23"]
    tasks = [job(tmp_path, "new-shards", f"21_{task}").arguments[-4:] for task in range(3)]
    assert tasks == [["--task", str(task), "--tasks", "3"] for task in range(3)]
    assert job(tmp_path, "run", "23").arguments == ["knn", str(tmp_path / "run"), "--controls"]
    assert [record.job_id for record in read_records(tmp_path / "run")] == ["22", "23"]
    assert read_records(tmp_path / "new-shards")[0].tasks == 3


def test_nothing_is_queued_where_a_later_stage_is_wrong(sbatch, tmp_path, capsys):
    for last, told in (
        (["--partition", "closed"], "SLURM refused the job: closed"),
        (["--nodes", "0"], "launch.nodes"),
    ):
        assert cli.main(chain(tmp_path, last=last)) == 2
        assert told in capsys.readouterr().err
        assert list(sbatch.glob("*.sbatch")) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["demo", "out"], "'demo' is not run as a job; expected one of build, pretrain"),
        (["knn"], "knn needs a run folder"),
        (["knn", "configs/smoke/iic.yaml"], "give that in the place of configs/smoke/iic.yaml"),
        (["build", "nowhere", "out"], "there is no nowhere to build shards from"),
        (["knn", "run", "--array", "2"], "--array shares the work of `build`"),
        (["knn", "run", "--after", "nowhere"], "--after nowhere: expected the number of a job"),
        (["knn", "run", "--then", "knn", "run", "--local"], "--local is for the whole chain"),
        (["knn", "run", "--cluster", "nowhere.yaml"], "there is no cluster file nowhere.yaml"),
        (["knn", "run", "--cluster", RECIPE], "is no cluster file"),
        (["pretrain", RECIPE, "--data.root", "nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_told_and_nothing_is_queued(sbatch, tmp_path, capsys, monkeypatch, words, told):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["submit", *words]) == 2
    assert told in capsys.readouterr().err
    assert list(sbatch.glob("*.sbatch")) == []


def test_a_job_can_wait_for_the_last_of_a_run(sbatch, tmp_path, shards):
    run = tmp_path / "run"
    assert cli.main(["submit", *pretrain_words(run, shards)]) == 0
    assert cli.main(["submit", "knn", str(run), "--after", str(run), "--after", "7"]) == 0
    assert options(sbatch / "22.sbatch")["dependency"] == "afterok:21:7"


def test_a_cluster_file_comes_between_the_recipe_and_the_command_line(sbatch, tmp_path, shards):
    site = tmp_path / "site.yaml"
    site.write_text(
        'launch:\n  nodes: 4\n  partition: big\n  time: "2:00:00"\n  setup: [export A=1, \'export B="x, y"\']\n'
        "  extra: {nice: 5}\npipeline:\n  threads: 3\n"
    )
    words = ["submit", *pretrain_words(tmp_path / "run", shards, {"launch.time": "1:00:00", "launch.account": "lab"})]
    assert cli.main([*words, "--cluster", str(site), "--nodes", "2"]) == 0
    seen = options(sbatch / "21.sbatch")
    assert (seen["nodes"], seen["partition"], seen["account"], seen["time"]) == ("2", "big", "lab", "60")
    assert seen["nice"] == "5"
    assert 'export B="x, y"' in (sbatch / "21.sbatch").read_text().splitlines()
    arguments = job(tmp_path, "run", "21").arguments
    assert arguments.index("--pipeline.threads=3") < arguments.index("--pipeline.threads=1")  # the last one counts


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "cluster").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_cluster_file_can_be_used(sbatch, tmp_path, shards, capsys, path):
    words = ["submit", "pretrain", RECIPE, f"--data.root={shards}", f"--run_dir={tmp_path / 'run'}"]
    assert cli.main([*words, "--cluster", str(path), "--dry-run"]) == 0
    assert "#SBATCH --nodes=" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_torchrun_asks_for_one_task_a_machine_with_the_cores_of_all_its_ranks(sbatch, tmp_path, shards):
    words = ["submit", *pretrain_words(tmp_path / "run", shards), "--launcher", "torchrun", "--nodes", "2"]
    assert cli.main([*words, "--tasks-per-node", "4", "--cpus-per-task", "6"]) == 0
    seen = options(sbatch / "21.sbatch")
    assert (seen["nodes"], seen["ntasks-per-node"], seen["cpus-per-task"]) == ("2", "1", "24")
    assert job(tmp_path, "run", "21").torchrun == 4


def test_the_script_runs_the_copy_between_two_guards(sbatch, tmp_path, shards):
    assert cli.main(["submit", *pretrain_words(tmp_path / "run", shards), "--fruitless-starts", "5"]) == 0
    lines = (sbatch / "21.sbatch").read_text().splitlines()
    logs = tmp_path / "run" / "slurm"
    (code,) = logs.glob("code-*")
    (begin,) = (n for n, line in enumerate(lines) if "launch.retry begin" in line)
    (srun,) = (n for n, line in enumerate(lines) if line.startswith("srun "))
    assert begin < srun
    assert f"{code}/start.py -m launch.retry begin {logs} --limit 5 || exit 1" in lines[begin]
    assert f"{code}/start.py -u -m submitit" in lines[srun]
    rest = [line for line in lines[srun + 1 :] if line and not line.startswith("#")]
    assert rest[0] == "status=$?"
    assert re.search(r'launch.retry end \S+ --limit 5 --status "\$status" --failed$', rest[1])
    assert rest[2] == 'exit "$status"'


def test_every_machine_of_several_looks_for_the_run_folder_before_the_ranks_start(sbatch, tmp_path, shards):
    run = tmp_path / "run"
    assert cli.main(["submit", *pretrain_words(run, shards)]) == 0
    assert (sbatch / "21.sbatch").read_text().count("srun ") == 1
    assert cli.main(["submit", *pretrain_words(run, shards), "--nodes", "2"]) == 0
    lines = (sbatch / "22.sbatch").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("srun "))
    (sbatch / "srun").write_text('#!/bin/sh\nwhile [ "$1" != sh ]; do shift; done\nexec "$@"\n')  # as on one machine
    (sbatch / "srun").chmod(0o755)
    script = "\n".join([*lines[first : first + 2], "echo ranks"])

    def look():
        environ = {"PATH": f"{sbatch}:/usr/bin:/bin", "SLURM_JOB_NUM_NODES": "2", "SLURMD_NODENAME": "gpu07"}
        return subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True)

    assert look().stdout == "ranks\n"
    run.rename(tmp_path / "elsewhere")
    seen = look()
    assert (seen.returncode, seen.stdout) == (2, "")
    assert re.match(
        rf"intravid: error: node gpu07: the run folder is not there: {run}/slurm/code-\S+ does", seen.stderr
    )


def test_options_of_the_command_itself_reach_the_job(sbatch, tmp_path, shards):
    words = ["submit", *pretrain_words(tmp_path / "run", shards), "--stop-after", "30"]
    assert cli.main(words) == 0
    arguments = job(tmp_path, "run", "21").arguments
    assert arguments[arguments.index("--stop-after") + 1] == "30"
    assert f"--pipeline.threads={TINY['pipeline.threads']}" in arguments
    assert stages.RECIPES[0] == arguments[0]
