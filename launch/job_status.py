"""How the jobs of a run stand, told from squeue and from what they left in the run folder; no accounting is needed."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_process.data_config import DataConfig
from data_process.errors import InputError
from launch.controller import AWAY, is_away
from launch.job_records import LOGS, JobRecord
from launch.retry import CANCELLED, GAVE_UP, read_starts
from launch.watch import END_STATES, UNKNOWN, recorded_state, unwritten

_TAIL_BYTES = 65_536


@dataclass(frozen=True)
class JobStatus:
    """One job, or one task of an array.

    Attributes:
        key: its number, ``ARRAY_TASK`` in an array.
        record: as it was submitted.
        state: in SLURM's words; LOST where nobody knows it any more and it left no result, UNREACHED where nobody can
            be asked.
        reason: SLURM's, or why it gave up; may be empty.
        starts: how often it was started.
        log: the file that tells most, if there is one.
    """

    key: str
    record: JobRecord
    state: str
    reason: str = ""
    starts: int = 0
    log: Path | None = None

    @property
    def is_over(self) -> bool:
        """Whether it will not run again."""
        return self.state in END_STATES or self.state == "LOST"


def ask_squeue(job_ids: list[str]) -> dict[str, tuple[str, str]]:
    """Number (``ARRAY_TASK`` in an array) to state and reason, of what squeue still knows.

    While the controller is away all jobs are UNREACHED, under the number of the array too.
    """
    if not job_ids:
        return {}
    told: dict[str, tuple[str, str]] = {}
    for job_id in job_ids:  # one that is forgotten would make the answer about all of them an error
        asked = ["squeue", "-h", "-r", "-t", "all", "-j", job_id, "-o", "%i|%T|%r"]
        try:
            answer = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        except OSError:
            return told
        except subprocess.TimeoutExpired:
            return _nobody_told(job_ids)
        if is_away(answer.stderr):
            return _nobody_told(job_ids)
        rows = (line.split("|", 2) for line in answer.stdout.splitlines() if line.count("|") >= 2)
        told |= {number: (state, "" if reason == "None" else reason) for number, state, reason in rows}
    return told


def _nobody_told(job_ids: list[str]) -> dict[str, tuple[str, str]]:
    return dict.fromkeys(job_ids, (AWAY, "the controller of the cluster does not answer; jobs go on without it"))


def statuses(folder: Path, record: JobRecord, known: Mapping[str, tuple[str, str]]) -> list[JobStatus]:
    """How a submitted job stands, by its tasks.

    Args:
        folder: of the run.
        record: of the job.
        known: from `ask_squeue`.
    """
    return [_status(folder / LOGS / key, key, record, known) for key in record.keys]


def _status(job: Path, key: str, record: JobRecord, known: Mapping[str, tuple[str, str]]) -> JobStatus:
    state, reason = known.get(key) or known.get(record.job_id, (UNKNOWN, ""))
    if record.host:
        state = _state_here(job, record)
    elif state == UNKNOWN:
        state = _left_behind(job)
    elif state == AWAY and _left_behind(job) == "COMPLETED":  # a failure may have led to another start
        state, reason = "COMPLETED", ""
    if (job / GAVE_UP).is_file():
        reason = (job / GAVE_UP).read_text(encoding="utf-8").strip()
    elif state in ("FAILED", "LOST") and reason in ("", "NonZeroExitCode", "JobLaunchFailure"):
        reason = unwritten(job) or reason
    return JobStatus(key, record, state, reason, max(len(read_starts(job)), int(job.is_dir())), telling_log(job))


def _state_here(job: Path, record: JobRecord) -> str:
    left = _left_behind(job)
    if left != "LOST" or record.host != socket.gethostname():
        return left
    try:
        os.kill(int(record.job_id), 0)
    except ProcessLookupError:
        return "LOST"
    except PermissionError:
        return "RUNNING"
    return "RUNNING"


def _left_behind(job: Path) -> str:
    """What a job's results say: COMPLETED where all ranks have one of success, FAILED where one has not."""
    results = [recorded_state(path) for path in job.glob("*_result.pkl")]
    if (job / CANCELLED).exists():
        return "CANCELLED"
    if not results:
        return "LOST"
    return "FAILED" if "FAILED" in results else "COMPLETED"


def telling_log(job: Path) -> Path | None:
    """Of a job's logs the one that tells most: of the rank that named an error first, else of rank 0.

    A rank that fails takes the others with it, and they complain of it: what they say is the longer, but not the cause.
    """
    logs = sorted(job.glob("*_log.err"), key=lambda path: path.name)
    failed = [path for path in logs if (said := _errors(path)) and "another process of this run" not in said]
    if failed:
        return min(failed, key=lambda path: path.stat().st_mtime)
    return next((path for path in logs if path.name.endswith("_0_log.err")), logs[0] if logs else None)


def _errors(path: Path) -> str:
    lines = [line for line in tail(path, 200) if line.startswith(("intravid: error:", "Traceback"))]
    return lines[-1] if lines else ""


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log; a progress display that overwrites itself counts as its last state."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    whole = [line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]
    return [line for line in whole if line.strip()][-lines:]


@dataclass(frozen=True)
class Advance:
    """How far a run is.

    Attributes:
        step: finished steps.
        total: of the run; 0 where the data are not visible here.
        step_s: seconds a step, over the last ten records.
        clips_per_s: likewise.
        age_s: seconds since the last sign of life; None where there was none.
    """

    step: int
    total: int
    step_s: float
    clips_per_s: float
    age_s: float | None

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at this speed; None where the end is not known."""
        return (self.total - self.step) * self.step_s if self.total else None


def advance(run: Path) -> Advance | None:
    """How far a run is, from its log, heartbeat and configuration; None where it has not taken a step."""
    records = _last_records(run / "log.jsonl", 10)
    if not records:
        return None
    heartbeat = run / "heartbeat.json"
    age = time.time() - heartbeat.stat().st_mtime if heartbeat.is_file() else None
    mean = {name: sum(record[name] for record in records) / len(records) for name in ("step_s", "clips_per_s")}
    return Advance(records[-1]["step"], _total_steps(run / "config.yaml"), mean["step_s"], mean["clips_per_s"], age)


def _last_records(path: Path, count: int) -> list[dict[str, Any]]:
    import json

    if not path.is_file():
        return []
    records = []
    for line in tail(path, count + 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # cut by the length of the tail, or being written
    return records[-count:]


def _total_steps(path: Path) -> int:
    """Steps of a run, from its configuration and the number of its videos; 0 where they are not visible here."""
    if not path.is_file():
        return 0
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    train, data = plain["train"], plain["data"]
    if train.get("steps"):
        return train["steps"]
    try:
        # Where the shards are, not a copy on a node's disk.
        videos = DataConfig(root=data["root"], split=data["split"], subset=data["subset"]).open()
    except InputError:
        return 0
    return train["epochs"] * (len(videos) // train["global_batch"])
