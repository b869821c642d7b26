import subprocess
import sys
from pathlib import Path

import pytest

from data_process.errors import InputError
from launch import snapshot
from tests.launch.runs import LIMIT_S, ROOT, environment


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in the place of the real one."""
    root = tmp_path / "checkout"
    for name in snapshot._PACKAGES:
        (root / name / "__pycache__").mkdir(parents=True)
        (root / name / "__init__.py").write_text(f"{name} = 1\n")
        (root / name / "__pycache__" / "x.pyc").write_text("")
    (root / "launch" / "start.py").write_text((ROOT / "launch" / "start.py").read_text())
    (root / "configs" / "one.yaml").write_text("a: 1\n")
    monkeypatch.setattr(snapshot, "_HERE", root)
    return root


def test_the_copy_stays_when_the_package_changes(package, tmp_path):
    first = snapshot.take_snapshot(tmp_path / "slurm")
    assert first == snapshot.snapshot_path(tmp_path / "slurm").resolve()
    assert (first / "configs" / "one.yaml").read_text() == "a: 1\n"
    assert not list(first.rglob("__pycache__"))
    (package / "engine" / "__init__.py").write_text("engine = 2\n")
    second = snapshot.take_snapshot(tmp_path / "slurm")
    assert second != first
    assert [(one / "engine" / "__init__.py").read_text() for one in (first, second)] == ["engine = 1\n", "engine = 2\n"]


def test_the_same_package_is_copied_once(package, tmp_path):
    first = snapshot.take_snapshot(tmp_path / "slurm")
    (first / "mark").touch()
    assert snapshot.take_snapshot(tmp_path / "slurm") == first
    assert (first / "mark").exists()
    assert len(list((tmp_path / "slurm").iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_told(package, tmp_path):
    (tmp_path / "slurm").write_text("a file in the way")
    with pytest.raises(InputError, match="cannot copy the code of the job"):
        snapshot.take_snapshot(tmp_path / "slurm")


def test_a_job_runs_the_copy_from_whatever_folder(tmp_path):
    """A checkout in the working directory, even of other content, does not come before the copy."""
    code = snapshot.take_snapshot(tmp_path / "slurm")
    other = tmp_path / "other"
    (other / "launch").mkdir(parents=True)
    (other / "launch" / "__init__.py").write_text("raise RuntimeError('the working directory came first')\n")
    for folder in (other, ROOT):
        ran = subprocess.run(
            [sys.executable, str(code / "start.py"), "-u", "-m", "launch", "--help"],
            cwd=folder, env=environment(), capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert "usage: intravid" in ran.stdout
    probe = "import sys, launch.cli, configs; print(launch.cli.__file__, configs.__file__, sys.argv)"
    (code / "probe.py").write_text(probe)
    ran = subprocess.run(
        [sys.executable, str(code / "start.py"), "-u", "-m", "probe", "--a", "b"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=True,
    )  # fmt: skip
    assert ran.stdout.split()[:2] == [str(code / "launch" / "cli.py"), str(code / "configs" / "__init__.py")]
    assert "'--a', 'b']" in ran.stdout


def test_a_recipe_is_kept_as_it_was(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("train:\n  steps: 3\n")
    kept = snapshot.keep_recipe(recipe, tmp_path / "slurm")
    recipe.write_text("train:\n  steps: 4\n")
    assert kept.read_text() == "train:\n  steps: 3\n"
    assert snapshot.keep_recipe(recipe, tmp_path / "slurm") != kept
    assert Path(kept).is_absolute()
