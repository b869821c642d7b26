"""Lists of CSTP: `name class [frames]`, one or two blanks between, blanks in names, with or without endings."""

from __future__ import annotations

import re

from data_process.datasets._annotated import ListedVideo, given_lists, join, read_lines
from data_process.errors import InputError
from data_process.source import SourceListing, SourceRequest

_LINE = re.compile(r"(\S.*?)\s+(\d+)(?:\s+(\d+))?")
_NAME = re.compile(r"\S.*/\S.*")


def read(request: SourceRequest) -> SourceListing:
    """Videos of CSTP's lists; only the last part of a name is looked for, its folders decide between equal names.

    Frame counts of the lists are not used: they belong to frames extracted at another rate.

    Raises:
        InputError: for a line of another form.
    """
    listed = []
    for split, path in given_lists(request, expected="CSTP's list"):
        for number, line in enumerate(read_lines(path), start=1):
            if match := _LINE.fullmatch(line):
                listed.append(ListedVideo(match[1], split, label=int(match[2])))
            elif _NAME.fullmatch(line):
                listed.append(ListedVideo(line, split, class_name=line.split("/")[-2]))
            else:
                raise InputError(f"{path}, line {number}: {line!r} is not `class/name label [frames]`")
    return join(request, listed)
