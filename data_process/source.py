"""What a dataset adapter yields, and how adapters are found: one module of `data_process.datasets` each."""

from __future__ import annotations

import itertools
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from data_process.errors import InputError
from data_process.index import SPLITS

VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".flv", ".gif", ".h264", ".h265", ".hevc", ".m2ts", ".m4v",
    ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogg", ".ogv", ".ts", ".vob",
    ".webm", ".wmv", ".y4m",
})  # fmt: skip
"""Endings, in lower case, of files that the folder adapter takes for videos."""


@dataclass(frozen=True)
class SourceVideo:
    """One video file to be stored.

    Attributes:
        path: the file.
        id: stable id, unique in the dataset.
        class_name: name of its class; None where unlabelled.
        split: train, val or test.
    """

    path: Path
    id: str
    class_name: str | None = None
    split: str = "train"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise InputError(f"{self.id}: split {self.split!r}; expected one of {', '.join(SPLITS)}")


@dataclass(frozen=True)
class SourceRequest:
    """What an adapter is asked to read.

    Attributes:
        root: folder of the videos; the list itself for adapters of lists of paths.
        split: of videos whose source does not tell it.
        annotations: lists or folders of lists, each with the split that its videos get, or None for what it tells; none
            for those that lie where the dataset's own archives put them.
        fold: which of the official splits of datasets that have several, from 1.
        classes: names in the order of the labels, for lists that give numbers.
    """

    root: Path
    split: str = "train"
    annotations: tuple[tuple[str | None, Path], ...] = ()
    fold: int = 1
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SourceListing:
    """What an adapter found.

    Attributes:
        videos: that are there.
        missing: ids that the annotations list and the folder does not hold, each with its class and split.
        warnings: what a person should know, a sentence each.
        classes: class names in the dataset's own order; None where it has none.
    """

    videos: Sequence[SourceVideo]
    missing: Sequence[dict[str, str | None]] = ()
    warnings: Sequence[str] = ()
    classes: tuple[str, ...] | None = None


Adapter = Callable[[SourceRequest], SourceListing]


def adapter_names() -> list[str]:
    """Values of `--dataset`."""
    import data_process.datasets

    names = (module.name for module in pkgutil.iter_modules(data_process.datasets.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def adapter_summaries() -> dict[str, str]:
    """Name of each adapter to the first line of its documentation."""
    return {
        name: (import_module(f"data_process.datasets.{name}").__doc__ or "").splitlines()[0] for name in adapter_names()
    }


def read_source(dataset: str, request: SourceRequest) -> SourceListing:
    """All videos of a source, sorted by id.

    Raises:
        InputError: for an unknown adapter, a missing source, no videos, missing files, ids given twice or not UTF-8.
    """
    if dataset not in adapter_names():
        raise InputError(f"--dataset {dataset}: no such adapter; known are {', '.join(adapter_names())}")
    if not request.root.exists():
        raise InputError(
            f"{request.root} does not exist; expected the folder or list of the videos (--dataset {dataset})"
        )
    adapter: Adapter = import_module(f"data_process.datasets.{dataset}").read
    listing = adapter(request)
    videos = sorted(listing.videos, key=lambda video: video.id)
    if not videos and listing.missing:
        raise InputError(
            f"none of the {len(listing.missing)} listed videos is below {request.root}; give the folder that holds "
            f"them (looked for {first_ten([str(one['id']) for one in listing.missing[:3]])})"
        )
    if not videos:
        raise InputError(
            f"{request.root} holds no videos; expected files such as .mp4 or .avi, or class folders of them"
        )
    _refuse_twice(videos)
    unwritable = [ascii(video.id) for video in videos if not is_utf8(video.id)]
    if unwritable:
        raise InputError(f"{len(unwritable)} names are not UTF-8: {first_ten(unwritable)}; rename these files")
    missing = [str(video.path) for video in videos if not video.path.exists()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(videos)} listed files do not exist: {first_ten(missing)}; correct the paths in "
            f"{request.root}, which are relative to its folder, or leave these files out"
        )
    return replace(listing, videos=videos)


def keep_subset(listing: SourceListing, ids: Sequence[str]) -> SourceListing:
    """Only the videos with the given ids.

    Raises:
        InputError: for ids that the source does not have, or a subset without a video that is there.
    """
    wanted = set(ids)
    unknown = sorted(wanted - {video.id for video in listing.videos} - {str(one["id"]) for one in listing.missing})
    if unknown:
        raise InputError(f"{len(unknown)} ids of the subset are not in the source: {first_ten(unknown)}")
    videos = [video for video in listing.videos if video.id in wanted]
    if not videos:
        raise InputError(f"none of the {len(wanted)} ids of the subset is a video that is there; name some that are")
    return replace(
        listing,
        videos=videos,
        missing=[one for one in listing.missing if one["id"] in wanted],
    )


def is_utf8(text: str) -> bool:
    """Whether a name can be stored; names of files that are not have surrogates in them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def unnumbered(lines: Sequence[str]) -> tuple[str, ...]:
    """Class names of a list without numbers where all lines have them in a row: `1 brush_hair`, `2 cartwheel`."""
    heads = [line.split(maxsplit=1) for line in lines]
    numbers = [head[0] for head in heads]
    numbered = all(len(head) == 2 for head in heads)
    if numbered and any(numbers == [str(first + place) for place in range(len(lines))] for first in (0, 1)):
        return tuple(head[1] for head in heads)
    return tuple(lines)


def _refuse_twice(videos: Sequence[SourceVideo]) -> None:
    listed = [one.id for one, two in itertools.pairwise(videos) if one.id == two.id and one.path == two.path]
    if listed:
        raise InputError(
            f"{len(listed)} videos are listed more than once, maybe with other splits or classes: {first_ten(listed)}; "
            "keep one line of each, or build the lists into folders of their own"
        )
    twice = [f"{one.id} ({one.path}, {two.path})" for one, two in itertools.pairwise(videos) if one.id == two.id]
    if twice:
        raise InputError(
            f"{len(twice)} ids stand for more than one file: {first_ten(twice)}; rename or leave out one file of each"
        )


def first_ten(names: Sequence[str]) -> str:
    """Up to ten names, and how many more there are."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
