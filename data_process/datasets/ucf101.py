"""UCF101 with its official split lists (--fold 1, 2 or 3)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from data_process.datasets._annotated import join, size_differences
from data_process.datasets._listed import ListedVideo, read_lines
from data_process.errors import InputError
from data_process.source import SourceListing, SourceRequest, unnumbered

OFFICIAL_SIZES = {
    1: {"train": 9537, "test": 3783},
    2: {"train": 9586, "test": 3734},
    3: {"train": 9624, "test": 3696},
}


def read(request: SourceRequest) -> SourceListing:
    """Videos of ``trainlist0F.txt`` and ``testlist0F.txt``; the class is the folder in the list.

    (Files of the folder HandstandPushups are called v_HandStandPushups: the file's name is not asked for a class.)
    ``classInd.txt`` beside the lists gives the order of the labels.

    Raises:
        InputError: for a fold that does not exist, or lists that are not there.
    """
    if request.fold not in OFFICIAL_SIZES:
        raise InputError(f"--fold {request.fold}: UCF101 has the folds 1, 2 and 3")
    folder = _folder_of_lists(request)
    listed = [
        ListedVideo(name, split, Path(name).parent.name)
        for split in ("train", "test")
        for name in _names(folder / f"{split}list0{request.fold}.txt")
    ]
    found = Counter(one.split for one in listed)
    listing = join(request, listed, warnings=size_differences("UCF101", found, OFFICIAL_SIZES[request.fold]))
    return replace(listing, classes=_classes(folder / "classInd.txt"))


def _classes(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    names = unnumbered(read_lines(path))
    if any(" " in name for name in names):
        raise InputError(
            f"{path} is not `1 ApplyEyeMakeup`, `2 ApplyLipstick`, ... in this order; correct or remove it"
        )
    return names


def _folder_of_lists(request: SourceRequest) -> Path:
    given = [path for _, path in request.annotations]
    name = f"trainlist0{request.fold}.txt"
    places = given or [request.root, request.root / "ucfTrainTestlist", request.root.parent / "ucfTrainTestlist"]
    for place in places:
        if (place / name).is_file():
            return place
    raise InputError(f"{name} is not in {', '.join(map(str, places))}; give the folder of the lists as --annotations")


def _names(path: Path) -> list[str]:
    """Paths of a list; train lists have a label behind them."""
    return [line.rsplit(" ", 1)[0] if line.rsplit(" ", 1)[-1].isdecimal() else line for line in read_lines(path)]
