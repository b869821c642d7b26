"""The report beside each shard: which videos were left out, which were stored with reservations, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_process.durable import write_durably
from data_process.shard_writer import list_shards, shard_name

MERGED_NAME = "quarantine.jsonl"


def report_path(root: Path, number: int) -> Path:
    """File of one shard's report; absent where there is nothing to report."""
    return root / f"quarantine-{shard_name(number).removesuffix('.lmdb')}.jsonl"


def read_report(root: Path, number: int) -> list[dict[str, Any]]:
    """Rows of one shard's report: ``id``, ``path``, ``stored``, ``code``, ``detail`` and what was measured."""
    path = report_path(root, number)
    return read_json_lines(path) if path.exists() else []


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Objects of a file with one JSON object a line."""
    # Not splitlines: file names may hold what Unicode calls a line separator.
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def write_report(root: Path, number: int, rows: Sequence[dict[str, Any]]) -> None:
    """Write one shard's report, or remove that of an earlier start."""
    _write(report_path(root, number), rows)


def merge_reports(root: Path) -> None:
    """Write all rows of the published shards as one file, or remove it where there are none."""
    _write(root / MERGED_NAME, [row for number in list_shards(root) for row in read_report(root, number)])


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        write_durably(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    else:
        path.unlink(missing_ok=True)
