"""Lists of VTDL: `path frames class` for UCF101 and HMDB51, `path class` for Kinetics."""

from __future__ import annotations

from data_process.datasets._annotated import ListedVideo, given_lists, join, read_lines
from data_process.errors import InputError
from data_process.source import SourceListing, SourceRequest


def read(request: SourceRequest) -> SourceListing:
    """Videos of VTDL's lists. Paths are those of its authors: the last part is looked for below the folder.

    Frame counts of the lists are not used: they do not agree with the files.

    Raises:
        InputError: for a line of another form.
    """
    listed = []
    for split, path in given_lists(request, expected="VTDL's list"):
        for number, line in enumerate(read_lines(path), start=1):
            name, *numbers = line.rsplit(maxsplit=2)
            if not numbers or not numbers[-1].isdecimal():
                raise InputError(f"{path}, line {number}: {line!r} is not `path frames class` or `path class`")
            if len(numbers) == 2 and not numbers[0].isdecimal():
                name = f"{name} {numbers[0]}"  # a blank in the path of a line without a frame count
            listed.append(ListedVideo(name, split, label=int(numbers[-1])))
    return join(request, listed)
