"""A list of videos: `path label` lines, or CSV rows of path, label and optionally split."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from data_process.errors import InputError
from data_process.index import SPLITS
from data_process.source import SourceListing, SourceRequest, SourceVideo


def read(request: SourceRequest) -> SourceListing:
    """Videos named in a text file; paths are relative to the folder of the list.

    A ``.csv`` file holds rows ``path,label[,split]``, with or without a header line that begins with ``path``. Any
    other file holds lines ``path label``, cut at the last blank so that paths may contain blanks; a line that is the
    name of an existing file has no label. The id is the path without its ending.

    Raises:
        InputError: where the source is no file or a line cannot be understood, with its number.
    """
    source = request.root
    if not source.is_file():
        raise InputError(f"{source} is a folder; --dataset list expects a text or CSV file, --dataset folder a folder")
    try:
        # The byte order mark that spreadsheets write in front is dropped.
        text = source.read_text(encoding="utf-8-sig")
        rows = list(_csv_rows(source, text) if source.suffix.lower() == ".csv" else _text_rows(source, text))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{source} is no list of videos ({error}); expected text in UTF-8") from None
    return SourceListing(
        [
            SourceVideo(
                source.parent / path, str(Path(path).with_suffix("")).lstrip("/"), label, row_split or request.split
            )
            for path, label, row_split in rows
        ]
    )


def _csv_rows(source: Path, text: str) -> Iterator[tuple[str, str | None, str | None]]:
    for number, row in enumerate(csv.reader(StringIO(text, newline="")), start=1):
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


def _text_rows(source: Path, text: str) -> Iterator[tuple[str, str | None, None]]:
    # Not splitlines: file names may hold what Unicode calls a line separator.
    for line in map(str.strip, text.split("\n")):
        words = line.rsplit(maxsplit=1)
        if len(words) == 2 and not (source.parent / line).is_file():
            yield words[0], words[1], None
        elif words:
            yield line, None, None
