import os
import re
import subprocess
import sys
import time
from importlib import import_module

import pytest

from data_process.errors import InputError, RunError
from launch import cli
from tests.launch.runs import ROOT


def test_help_answers_in_half_a_second():
    def once():
        start = time.perf_counter()
        ran = subprocess.run([sys.executable, "-m", "launch", "--help"], cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 0
        return time.perf_counter() - start

    assert min(once() for _ in range(5)) < 0.5  # the fastest: others may use the machine


def test_an_unknown_command_is_told_with_the_nearest(capsys):
    assert cli.main(["pretrian"]) == 2
    assert "unknown command 'pretrian' (did you mean pretrain?)" in capsys.readouterr().err


def test_no_command_prints_the_usage_and_counts_as_wrong_input(capsys):
    assert cli.main([]) == 2
    assert "usage: intravid COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status"),
    [(InputError("what was\n  given"), 2), (RunError("what\nfailed"), 1), (KeyboardInterrupt(), 130)],
    ids=["input", "run", "Ctrl-C"],
)
def test_an_error_is_one_paragraph_with_its_status(monkeypatch, capsys, error, status):
    def fail(_):
        raise error

    monkeypatch.setattr(import_module("launch.commands.knn"), "main", fail)
    assert cli.main(["knn"]) == status
    said = capsys.readouterr().err
    assert re.fullmatch(r"intravid: error: .+\n", said)


def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch):
    def fail(_):
        raise ValueError("a bug")

    monkeypatch.setattr(import_module("launch.commands.knn"), "main", fail)
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["knn"])


def test_the_settings_of_a_run_can_be_listed(capsys):
    assert cli.main(["pretrain", "--settings"]) == 0
    said = capsys.readouterr().out
    for name in ("--train.global_batch", "--optim.lr", "--pipeline.backend", "--launch.partition", "--method"):
        assert name in said


def test_the_command_runs_from_any_folder_of_an_installed_checkout(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "launch", "pretrain", "nowhere.yaml"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "there is no recipe nowhere.yaml" in ran.stderr
