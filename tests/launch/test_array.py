"""The part of a task in an array; variables as SLURM 22.05 sets them for `--array=...`."""

import argparse

import pytest

from data_process.errors import InputError
from launch.array import array_task, parse_with_task


def variables(task, first, last, count, step):
    names = ("ID", "MIN", "MAX", "COUNT", "STEP")
    values = map(str, (task, first, last, count, step))
    return dict(zip((f"SLURM_ARRAY_TASK_{name}" for name in names), values, strict=True))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        (variables(3, 0, 7, 8, 1), (3, 8)),
        (variables(8, 1, 8, 8, 1), (7, 8)),
        (variables(9, 5, 9, 3, 2), (2, 3)),  # --array=5-9:2
        (variables(5, 5, 5, 1, 1), (0, 1)),  # --array=5: all by itself
    ],
)
def test_slurm_arrays_number_the_tasks_from_0(environment, expected):
    assert array_task(environment) == expected


@pytest.mark.parametrize("environment", [variables(7, 1, 7, 3, 1), variables(1, 0, 9, 4, 1), variables(3, 1, 3, 2, 1)])
def test_arrays_with_holes_are_refused_by_every_task_with_what_mends_it(environment, monkeypatch):
    with pytest.raises(InputError, match=r"irregularly .*--task \$SLURM_ARRAY_TASK_ID --tasks 16"):
        array_task(environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = parse_with_task(argparse.ArgumentParser(), ["--task", "7", "--tasks", "16"])
    assert (given.task, given.tasks) == (7, 16)


@pytest.mark.parametrize("words", [["--task", "2"], ["--tasks", "4"]])
def test_a_number_alone_is_refused(words):
    with pytest.raises(InputError, match="--task and --tasks belong together"):
        parse_with_task(argparse.ArgumentParser(), words)
