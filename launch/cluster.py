"""What a job asks of a SLURM cluster: the `launch:` section of a recipe, or of a cluster's own file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data_process.errors import InputError

_EARLIEST_S = 120
"""Least time that a run needs to itself; SLURM's signal may come a minute early."""


@dataclass(frozen=True)
class ClusterConfig:
    """Machines, time and account of `intravid submit`; other commands do not read it.

    Attributes:
        nodes: machines.
        gpus_per_node: GPUs on each; also the ranks on each unless `tasks_per_node` says otherwise.
        tasks_per_node: ranks on each machine; 0 takes one per GPU, or one without GPUs.
        cpus_per_task: cores of each rank; 0 leaves it to the cluster.
        mem_gb: memory of each machine; 0 leaves it to the cluster.
        time: limit, in SLURM's notations (``90`` minutes, ``1:30:00``, ``2-12:00:00``); the job saves and requeues
            itself before it.
        partition: of the cluster; empty for its default.
        account: to be charged.
        qos: quality of service.
        constraint: features of the machines.
        setup: shell lines before the ranks start, for instance ``export NCCL_SOCKET_IFNAME=ib0``.
        signal_delay_s: seconds before the limit at which the ranks are told to save.
        extra: further sbatch options, name to value.
        launcher: ranks (one SLURM task for each rank), or torchrun (one task for each machine, which starts its ranks).
        fruitless_starts: starts of a job without progress after which it gives up; a failed rank, a lost machine and a
            time limit each lead to another start.
        min_free_gb: free space below which a job is not begun: for the run folder's file system.
    """

    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int = 0
    cpus_per_task: int = 0
    mem_gb: float = 0.0
    time: str = "24:00:00"
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    setup: tuple[str, ...] = ()
    signal_delay_s: int = 120
    extra: Mapping[str, str] = field(default_factory=dict)
    launcher: Literal["ranks", "torchrun"] = "ranks"
    fruitless_starts: int = 3
    min_free_gb: float = 2.0

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise InputError(f"launch.nodes must be at least 1, got {self.nodes}")
        if self.fruitless_starts < 1:
            raise InputError(f"launch.fruitless_starts must be at least 1, got {self.fruitless_starts}")
        for name in ("gpus_per_node", "tasks_per_node", "cpus_per_task", "mem_gb", "signal_delay_s", "min_free_gb"):
            if getattr(self, name) < 0:
                raise InputError(f"launch.{name} must not be negative, got {getattr(self, name)}")
        least = -(-(self.signal_delay_s + _EARLIEST_S) // 60)
        if self.minutes < least:
            raise InputError(
                f"launch.time ({self.time}, {self.minutes} min) leaves no time to train: the ranks are told to save "
                f"{self.signal_delay_s} s before it (launch.signal_delay_s); give {least} minutes or more"
            )

    @property
    def ranks_per_node(self) -> int:
        """Ranks on each machine."""
        return self.tasks_per_node or self.gpus_per_node or 1

    @property
    def num_ranks(self) -> int:
        """Ranks of the whole job."""
        return self.nodes * self.ranks_per_node

    @property
    def slurm_tasks_per_node(self) -> int:
        """Processes that SLURM starts on each machine; under torchrun one, which starts the ranks."""
        return 1 if self.launcher == "torchrun" else self.ranks_per_node

    @property
    def minutes(self) -> int:
        """The time limit in whole minutes."""
        return parse_minutes(self.time)


def parse_minutes(text: str) -> int:
    """Whole minutes, rounded up, of SLURM's notations: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S.

    Raises:
        InputError: for any other text.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise InputError(f"launch.time {text!r} is not a time limit; expected minutes, H:MM:SS or D-HH:MM:SS")
    days, first, second, third = (int(part or 0) for part in match.groups())
    if match[1] is not None or match[4] is not None:
        seconds = ((days * 24 + first) * 60 + second) * 60 + third
    else:
        seconds = first * 60 + second
    return max(1, -(-seconds // 60))


def read_cluster(path: Path) -> list[str]:
    """A cluster's own file as overrides of a recipe, ``--launch.nodes=2`` and so on.

    The file has the form of a recipe without its method: ``launch:`` as in a recipe, and what else depends on the
    machines (``data.stage``, ``pipeline.threads``, ``dist.timeout_s``).

    Raises:
        InputError: for a file that is missing, not YAML, or holds a method.
    """
    import yaml

    if not path.is_file():
        raise InputError(
            f"there is no cluster file {path}; expected YAML with a section `launch:`, as in configs/cluster/"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict) or "method" in content or not isinstance(content.get("launch"), dict):
        raise InputError(
            f"{path} is no cluster file: expected a section `launch:` (nodes, partition, ...) and no `method:`, as in "
            "configs/cluster/"
        )
    if not isinstance(content["launch"].get("time", ""), str):
        # To YAML, 24:00:00 is a number of base 60.
        raise InputError(f'{path}: launch.time must stand in quotes, for instance time: "24:00:00"')
    return list(_overrides(content, ""))


def _overrides(content: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in content.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and path != "launch.extra":
            yield from _overrides(value, f"{path}.")
        elif isinstance(value, Mapping):
            yield f"--{path}={json.dumps({option: str(given) for option, given in value.items()})}"
        else:
            yield f"--{path}={value if isinstance(value, str) else json.dumps(value)}"
