"""Lists of names that options take as files."""

from __future__ import annotations

from pathlib import Path


def read_names(path: Path | None, option: str) -> tuple[str, ...] | None:
    """Lines of a file, empty ones left out; None where no file was given.

    Raises:
        InputError: where it does not exist or is no text.
    """
    if path is None:
        return None
    from data_process.errors import InputError

    if not path.is_file():
        raise InputError(f"{option} {path} does not exist; expected a text file with one name a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{option} {path} is no list of names ({error}); expected text in UTF-8") from None
    return tuple(line.strip() for line in lines if line.strip())


def read_classes(path: Path | None) -> tuple[str, ...] | None:
    """Class names of ``--classes``, without the numbers that some lists write before them; None where not given.

    Raises:
        InputError: where the file does not exist or is no text.
    """
    from data_process.source import unnumbered

    names = read_names(path, "--classes")
    return None if names is None else unnumbered(names)
