"""Video lists of mmaction2: `path label`."""

from __future__ import annotations

from pathlib import Path

from data_process.datasets._annotated import join
from data_process.datasets._listed import ListedVideo, given_lists, read_lines
from data_process.errors import InputError
from data_process.source import VIDEO_SUFFIXES, SourceListing, SourceRequest


def read(request: SourceRequest) -> SourceListing:
    """Videos of a list; the last number is not guessed to be anything but a label.

    Raises:
        InputError: for lists of frame folders, several labels a video, or a line of another form.
    """
    listed = []
    for split, path in given_lists(request, expected="mmaction2's list of videos"):
        for number, line in enumerate(read_lines(path), start=1):
            words = line.split()
            numbers = []
            while len(words) > 1 and words[-1].isdecimal():
                numbers.insert(0, int(words.pop()))
            name, where = " ".join(words), f"{path}, line {number}: {line!r}"
            if not numbers:
                raise InputError(f"{where} is not `path label`")
            if Path(name).suffix.lower() not in VIDEO_SUFFIXES:
                raise InputError(f"{where} names a folder of frames; intravid builds from videos: give their list")
            if len(numbers) > 1:
                raise InputError(f"{where} has {len(numbers)} labels; a record has one: keep the one that counts")
            listed.append(ListedVideo(name, split, label=numbers[0]))
    return join(request, listed)
