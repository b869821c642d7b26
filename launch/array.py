"""Which part of the work is this task's, where many run the same command."""

from __future__ import annotations

from collections.abc import Mapping


def array_task(environment: Mapping[str, str]) -> tuple[int, int]:
    """Number of this task from 0, and of all tasks; arrays of SLURM may begin anywhere and leave out numbers."""
    task, first, step, tasks = (
        int(environment.get(f"SLURM_ARRAY_TASK_{name}", default))
        for name, default in (("ID", "0"), ("MIN", "0"), ("STEP", "1"), ("COUNT", "1"))
    )
    return (task - first) // step, tasks
