"""The bench command: its list, and that options go to the benchmark that is named."""

import subprocess
import sys

import pytest

from launch.cli import main
from launch.commands.bench import BENCHMARKS
from tests.launch.runs import ROOT


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_tells_its_options_and_an_example(name):
    ran = subprocess.run(
        [sys.executable, "-m", "launch", "bench", name, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert f"usage: intravid bench {name}" in ran.stdout
    assert "--json" in ran.stdout
    assert "example:" in ran.stdout


def test_without_a_name_the_benchmarks_are_listed(capsys):
    assert main(["bench"]) == 2
    said = capsys.readouterr().out
    assert all(text in said for text in BENCHMARKS.values())


def test_a_wrong_input_is_told_in_a_paragraph(tmp_path, capsys):
    assert main(["bench", "clip", str(tmp_path)]) == 2
    assert "holds no shards" in capsys.readouterr().err


def test_a_foreign_package_of_the_same_name_is_told(monkeypatch, capsys):
    import importlib.util
    from types import SimpleNamespace

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=f"/elsewhere/{name}/__init__"))
    assert main(["bench", "step", "--help"]) == 2
    assert "the package benchmarks comes from /elsewhere" in capsys.readouterr().err
