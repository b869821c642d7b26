"""Which jobs were submitted for a run: `slurm/jobs.jsonl` of its folder, one line a job."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data_process.errors import InputError

LOGS = "slurm"
"""Part of a run folder (or of a folder of shards) that belongs to its jobs: scripts, logs, code."""

_FILE = "jobs.jsonl"


@dataclass(frozen=True)
class JobRecord:
    """A job as it was submitted.

    Attributes:
        job_id: of SLURM, of a whole array; the process number of a job on this machine.
        arguments: words behind `intravid`.
        ranks: processes of the command; of each task where it is an array.
        tasks: of the array; 0 for a job that is none.
        after: jobs that must end well before it starts.
        host: of a job on one machine without SLURM; empty under SLURM.
        time: of the submission, seconds since 1970.
    """

    job_id: str
    arguments: Sequence[str]
    ranks: int = 1
    tasks: int = 0
    after: Sequence[str] = field(default_factory=list)
    host: str = ""
    time: float = field(default_factory=time.time)

    @property
    def command(self) -> str:
        """`pretrain`, `build`, ..."""
        return self.arguments[0]

    @property
    def keys(self) -> list[str]:
        """Names of the folders that its scripts and logs are in."""
        return [f"{self.job_id}_{task}" for task in range(self.tasks)] if self.tasks else [self.job_id]


def add_record(folder: Path, record: JobRecord) -> None:
    """Note a job of a run."""
    path = folder / LOGS / _FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record)) + "\n")


def read_records(folder: Path) -> list[JobRecord]:
    """The jobs of a run, oldest first.

    Raises:
        InputError: where none was submitted for this folder.
    """
    path = folder / LOGS / _FILE
    if not path.is_file():
        raise InputError(f"no job was submitted for {folder}: there is no {path}; give the folder of a submitted run")
    return [JobRecord(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
