"""Lists of videos as they are written: what a line says, and how the files of `--annotations` are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_process.errors import InputError
from data_process.source import SourceRequest


@dataclass(frozen=True)
class ListedVideo:
    """One line of a list.

    Attributes:
        name: path as listed; its last part is looked for, its folders decide between files of one name.
        split: train, val or test.
        class_name: as the list says; None where it gives a number or nothing.
        label: number of the class, from 0; None where the list gives none.
        id: stable id; empty for the class and the name.
        otherwise: the other thing that the line can mean: a number at the end of a name looks like a column.
    """

    name: str
    split: str
    class_name: str | None = None
    label: int | None = None
    id: str = ""
    otherwise: ListedVideo | None = None


def read_lines(path: Path) -> list[str]:
    """Lines of a list without ends and outer blanks; empty ones left out.

    Raises:
        InputError: where it cannot be read as text.
    """
    try:
        # Not splitlines: names may hold what Unicode calls a line separator.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list ({error}); expected text in UTF-8") from None
    return [line.strip() for line in lines if line.strip()]


def given_lists(request: SourceRequest, *, expected: str) -> list[tuple[str, Path]]:
    """Lists of ``--annotations`` with their splits.

    Raises:
        InputError: where none are given, or one does not exist.
    """
    if not request.annotations:
        raise InputError(f"the list is missing; give {expected} as --annotations [SPLIT=]FILE")
    for _, path in request.annotations:
        if not path.is_file():
            raise InputError(f"--annotations {path} does not exist; expected {expected}")
    return [(split or request.split, path) for split, path in request.annotations]
