"""Lists of CSTP: `name class [frames]`, one or two blanks between, blanks in names, with or without endings."""

from __future__ import annotations

import re

from data_process.datasets._annotated import join
from data_process.datasets._listed import ListedVideo, given_lists, read_lines
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
                # Or a name that ends in a number, without a frame count: the files tell.
                longer = match[3] and ListedVideo(line[: match.end(2)], split, label=int(match[3]))
                listed.append(ListedVideo(match[1], split, label=int(match[2]), otherwise=longer or None))
            elif _NAME.fullmatch(line):
                listed.append(ListedVideo(line, split, class_name=line.split("/")[-2]))
            else:
                raise InputError(f"{path}, line {number}: {line!r} is not `class/name label [frames]`")
    return join(request, listed)
