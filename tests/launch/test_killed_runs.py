"""Kills at random moments, in training, in the loader and in every kind of writing, leave no trace.

INTRAVID_KILLS sets how many a method has to survive in the slow test (3); `python -m tests.launch.killed_runs
configs/smoke/*.yaml --kills 20` is the same without pytest.
"""

import os
import subprocess
import sys

import pytest

from tests.launch.recipes import SMOKE
from tests.launch.runs import ROOT, environment


def survived(recipe, kills, limit_s):
    command = [sys.executable, "-m", "tests.launch.killed_runs", str(recipe), "--kills", str(kills)]
    ran = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=limit_s)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{kills} kills, bitwise the unbroken run" in ran.stdout


def test_a_run_survives_kills_at_two_random_moments():
    survived(ROOT / "configs" / "smoke" / "iic.yaml", 2, 250)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", SMOKE, ids=lambda recipe: recipe.stem)
def test_every_method_survives_kills_at_random_moments(recipe):
    kills = int(os.environ.get("INTRAVID_KILLS", "3"))
    survived(recipe, kills, 280)
