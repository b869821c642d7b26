"""What a dataset adapter yields, and how adapters are found: one module of `data_process.datasets` each."""

from __future__ import annotations

import itertools
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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


Adapter = Callable[[Path, str], Iterable[SourceVideo]]
"""`read(source, split)`: the videos of a source; `split` is what those get whose split the source does not tell."""


def adapter_names() -> list[str]:
    """Values of `--dataset`."""
    import data_process.datasets

    return sorted(module.name for module in pkgutil.iter_modules(data_process.datasets.__path__))


def read_source(dataset: str, source: Path, *, split: str = "train") -> list[SourceVideo]:
    """All videos of a source, sorted by id.

    Raises:
        InputError: for an unknown adapter, a missing source, no videos, missing files, ids given twice or not UTF-8.
    """
    if dataset not in adapter_names():
        raise InputError(f"--dataset {dataset}: no such adapter; known are {', '.join(adapter_names())}")
    if not source.exists():
        raise InputError(f"{source} does not exist; expected the folder or list of the videos (--dataset {dataset})")
    adapter: Adapter = import_module(f"data_process.datasets.{dataset}").read
    videos = sorted(adapter(source, split), key=lambda video: video.id)
    if not videos:
        raise InputError(f"{source} holds no videos; expected files such as .mp4 or .avi, or class folders of them")
    _refuse_twice(videos)
    unwritable = [ascii(video.id) for video in videos if not _is_utf8(video.id)]
    if unwritable:
        raise InputError(f"{len(unwritable)} names are not UTF-8: {first_ten(unwritable)}; rename these files")
    missing = [str(video.path) for video in videos if not video.path.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(videos)} listed files do not exist: {first_ten(missing)}; correct the paths in "
            f"{source}, which are relative to its folder, or leave these files out"
        )
    return videos


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_twice(videos: Sequence[SourceVideo]) -> None:
    twice = [f"{one.id} ({one.path}, {two.path})" for one, two in itertools.pairwise(videos) if one.id == two.id]
    if twice:
        raise InputError(
            f"{len(twice)} ids stand for more than one file: {first_ten(twice)}; rename or leave out one file of each"
        )


def first_ten(names: Sequence[str]) -> str:
    """Up to ten names, and how many more there are."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
