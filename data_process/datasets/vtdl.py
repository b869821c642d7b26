"""Lists of VTDL: `path frames class` for UCF101 and HMDB51, `path class` for Kinetics."""

from __future__ import annotations

import re

from data_process.datasets._annotated import join
from data_process.datasets._listed import ListedVideo, given_lists, read_lines
from data_process.errors import InputError
from data_process.source import SourceListing, SourceRequest

_COUNTED = re.compile(r"(\S.*?)\s+\d+")


def read(request: SourceRequest) -> SourceListing:
    """Videos of VTDL's lists. Paths are those of its authors: the last part is looked for below the folder.

    Frame counts of the lists are not used: they do not agree with the files.

    Raises:
        InputError: for a line of another form.
    """
    listed = []
    for split, path in given_lists(request, expected="VTDL's list"):
        for number, line in enumerate(read_lines(path), start=1):
            name, *rest = line.rsplit(maxsplit=1)
            if not rest or not rest[0].isdecimal():
                raise InputError(f"{path}, line {number}: {line!r} is not `path frames class` or `path class`")
            label = int(rest[0])
            without_count = ListedVideo(name, split, label=label)
            if counted := _COUNTED.fullmatch(name):
                # Or a name that ends in a number, without a frame count: the files tell.
                listed.append(ListedVideo(counted[1], split, label=label, otherwise=without_count))
            else:
                listed.append(without_count)
    return join(request, listed)
