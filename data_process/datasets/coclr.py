"""CSV files of CoCLR and DualVar: `.../class/video/,frames`."""

from __future__ import annotations

import csv

from data_process.datasets._annotated import join
from data_process.datasets._listed import ListedVideo, given_lists
from data_process.errors import InputError
from data_process.source import SourceListing, SourceRequest, first_ten


def read(request: SourceRequest) -> SourceListing:
    """Videos of CoCLR's and DualVar's CSV files: the last two folders of a path are class and video.

    Frame counts are not used. (Rows of 0 frames are videos whose names were taken for patterns; they are read like all
    others, and named.)

    Raises:
        InputError: for a row of another form.
    """
    listed, empty = [], []
    for split, path in given_lists(request, expected="CoCLR's or DualVar's CSV file"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row:
                    continue
                parts = row[0].strip().rstrip("/").split("/")
                if len(row) != 2 or len(parts) < 2 or not row[1].strip().isdecimal():
                    raise InputError(f"{path}, line {number}: {row} is not `.../class/video/,frames`")
                listed.append(ListedVideo("/".join(parts[-2:]), split, class_name=parts[-2]))
                if int(row[1]) == 0:
                    empty.append("/".join(parts[-2:]))
    told = [f"{len(empty)} rows have 0 frames, which the list is wrong about: {first_ten(empty)}"] if empty else []
    return join(request, listed, warnings=told)
