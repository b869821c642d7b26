"""A folder of videos: a class per sub-folder, or none; folders called train, val or test at the top are splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_process.datasets._files import is_video, walk_videos
from data_process.errors import InputError
from data_process.index import SPLITS
from data_process.source import SourceListing, SourceRequest, SourceVideo


def read(request: SourceRequest) -> SourceListing:
    """Videos below a folder.

    ``CLASS/x.mp4`` has the id ``CLASS/x``, ``train/CLASS/x.mp4`` the id ``train/CLASS/x``. Files that lie beside the
    class folders have no class; hidden files and folders are left out; links to folders are followed.

    Raises:
        InputError: where the source is a file.
    """
    source = request.root
    if not source.is_dir():
        raise InputError(f"{source} is a file; --dataset folder expects a folder, --dataset list a list of videos")
    return SourceListing(list(_read(source, request.split)))


def _read(source: Path, split: str) -> Iterator[SourceVideo]:
    entries = [path for path in source.iterdir() if not path.name.startswith(".")]
    folders = {path.name: path for path in entries if path.is_dir()}
    if folders and set(folders) <= set(SPLITS) and not any(map(is_video, entries)):
        for name, folder in sorted(folders.items()):
            yield from _videos(folder, split=name, prefix=f"{name}/")
    else:
        yield from _videos(source, split=split, prefix="")


def _videos(root: Path, *, split: str, prefix: str) -> Iterator[SourceVideo]:
    paths = list(walk_videos(root))
    stems = [str(path.relative_to(root).with_suffix("")) for path in paths]
    times = Counter(stems)
    for path, stem in zip(paths, stems, strict=True):
        parts = path.relative_to(root).parts
        # x.mp4 and x.avi are two videos: their ids keep the ending.
        name = stem if times[stem] == 1 else str(path.relative_to(root))
        yield SourceVideo(path, prefix + name, parts[0] if len(parts) > 1 else None, split)
