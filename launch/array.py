"""Which part of the work is this task's, where many run the same command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence


def parse_with_task(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command's arguments, with `--task` and `--tasks` added to its own; both are numbers in the result.

    Raises:
        InputError: where one is given without the other, or a SLURM array does not tell them.
    """
    parser.add_argument("--task", type=int, help="number of this task, from 0 (that of the SLURM array, or 0)")
    parser.add_argument("--tasks", type=int, help="number of tasks that share the work (of the SLURM array, or 1)")
    given = parser.parse_args(arguments)
    if given.task is None and given.tasks is None:
        given.task, given.tasks = array_task(os.environ)
    elif given.task is None or given.tasks is None:
        from data_process.errors import InputError

        raise InputError("--task and --tasks belong together: this task's number from 0, and how many there are")
    return given


def array_task(environment: Mapping[str, str]) -> tuple[int, int]:
    """Number of this task from 0, and of all tasks; arrays of SLURM may begin anywhere and take steps.

    Raises:
        InputError: for an array that leaves out numbers otherwise: a task cannot tell how many of them come before it.
    """
    task, first, step, tasks = (
        int(environment.get(f"SLURM_ARRAY_TASK_{name}", default))
        for name, default in (("ID", "0"), ("MIN", "0"), ("STEP", "1"), ("COUNT", "1"))
    )
    last = int(environment.get("SLURM_ARRAY_TASK_MAX", first + (tasks - 1) * step))
    if first + (tasks - 1) * step != last:
        from data_process.errors import InputError

        raise InputError(
            f"the {tasks} tasks of this SLURM array lie irregularly between {first} and {last}. To start lost tasks of "
            "an array again, say how many tasks it had: --task $SLURM_ARRAY_TASK_ID --tasks 16 after --array=0-15; or "
            "start the whole array again, what is finished is kept"
        )
    return (task - first) // step, tasks
