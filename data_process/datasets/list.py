"""A list of videos: `path label` lines, or CSV rows of path, label and optionally split."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from data_process.errors import InputError
from data_process.index import SPLITS
from data_process.source import SourceVideo


def read(source: Path, split: str) -> Iterator[SourceVideo]:
    """Videos named in a text file; paths are relative to the folder of the list.

    A ``.csv`` file holds rows ``path,label[,split]``, with or without a header line that begins with ``path``. Any
    other file holds lines ``path label``, cut at the last blank so that paths may contain blanks; a line that is the
    name of an existing file has no label. The id is the path without its ending.

    Raises:
        InputError: where the source is no file or a line cannot be understood, with its number.
    """
    if not source.is_file():
        raise InputError(f"{source} is a folder; --dataset list expects a text or CSV file, --dataset folder a folder")
    rows = _csv_rows(source) if source.suffix.lower() == ".csv" else _text_rows(source)
    for path, label, row_split in rows:
        name = str(Path(path).with_suffix("")).lstrip("/")
        yield SourceVideo(source.parent / path, name, label, row_split or split)


def _csv_rows(source: Path) -> Iterator[tuple[str, str | None, str | None]]:
    with source.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            cells = [cell.strip() for cell in row]
            if not any(cells) or (number == 1 and cells[0].lower() == "path"):
                continue
            if not 1 <= len(cells) <= 3 or not cells[0]:
                raise InputError(f"{source}, line {number}: {row} is not `path,label[,split]`")
            label = cells[1] if len(cells) > 1 and cells[1] else None
            row_split = cells[2] if len(cells) > 2 and cells[2] else None
            if row_split is not None and row_split not in SPLITS:
                raise InputError(f"{source}, line {number}: split {row_split!r}; expected one of {', '.join(SPLITS)}")
            yield cells[0], label, row_split


def _text_rows(source: Path) -> Iterator[tuple[str, str | None, None]]:
    for line in source.read_text(encoding="utf-8-sig").split("\n"):
        line = line.strip()
        if not line:
            continue
        path, _, label = line.rpartition(" ")
        if not path or (source.parent / line).is_file():
            yield line, None, None
        else:
            yield path.rstrip(), label, None
