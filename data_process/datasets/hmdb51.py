"""HMDB51 with its official split files (--fold 1, 2 or 3)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from data_process.datasets._annotated import join, size_differences
from data_process.datasets._listed import ListedVideo, read_lines
from data_process.errors import InputError
from data_process.source import SourceListing, SourceRequest

OFFICIAL_SIZES = {"train": 3570, "test": 1530}
_SPLITS = {"1": "train", "2": "test"}


def read(request: SourceRequest) -> SourceListing:
    """Videos of the files ``CLASS_test_splitF.txt``, whose lines end in 1 (train), 2 (test) or 0 (not used).

    The class is the name of the file; classes are numbered by name. (The official files hold no numbers; four orders
    circulate, so only names are stored.)

    Raises:
        InputError: for a fold that does not exist, lists that are not there, or a line that is none of theirs.
    """
    if request.fold not in (1, 2, 3):
        raise InputError(f"--fold {request.fold}: HMDB51 has the folds 1, 2 and 3")
    ending = f"_test_split{request.fold}.txt"
    lists = _lists(request, ending)
    listed = [one for path in lists for one in _videos(path, path.name.removesuffix(ending))]
    found = Counter(one.split for one in listed)
    return join(request, listed, warnings=size_differences("HMDB51", found, OFFICIAL_SIZES))


def _lists(request: SourceRequest, ending: str) -> list[Path]:
    given = [path for _, path in request.annotations]
    names = ("", "testTrainMulti_7030_splits", "test_train_splits", "testTrainMulti_7030_splits_folder")
    places = given or [root / name for root in (request.root, request.root.parent) for name in names]
    for place in places:
        lists = sorted(place.glob(f"*{ending}")) if place.is_dir() else []
        if lists:
            return lists
    raise InputError(
        f"no file ends in {ending} in {', '.join(map(str, places))}; give the folder of the lists as --annotations"
    )


def _videos(path: Path, class_name: str) -> list[ListedVideo]:
    videos = []
    for number, line in enumerate(read_lines(path), start=1):
        name, _, use = line.rpartition(" ")
        if use not in ("0", *_SPLITS) or not name:
            raise InputError(f"{path}, line {number}: {line!r} is not `name.avi 0|1|2`")
        if use in _SPLITS:
            videos.append(ListedVideo(f"{class_name}/{name.strip()}", _SPLITS[use], class_name))
    return videos
