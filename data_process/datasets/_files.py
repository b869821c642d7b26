"""Video files below a folder, and how names of lists are found among them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_process.errors import InputError
from data_process.source import VIDEO_SUFFIXES


def walk_videos(root: Path) -> Iterator[Path]:
    """Video files below a folder, hidden ones left out, links to folders followed."""
    # Not rglob: it passes over class folders that are links, and shared storage is full of those.
    for name, folders, files in os.walk(root, followlinks=True):
        here = Path(name)
        folders[:] = [one for one in sorted(folders) if not one.startswith(".") and not _leads_back(here / one)]
        paths = (here / one for one in sorted(files) if not one.startswith("."))
        yield from (path for path in paths if is_video(path))


def _leads_back(folder: Path) -> bool:
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def is_video(path: Path) -> bool:
    """Whether a file ends as videos do."""
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def stem_of(name: str) -> str:
    """A file's name without its endings; downloads end in .mp4.webm, too."""
    while (suffix := os.path.splitext(name)[1]).lower() in VIDEO_SUFFIXES and suffix:
        name = name[: -len(suffix)]
    return name


class VideoFiles:
    """Files of a folder, found by their names without endings.

    Args:
        root: folder of the videos.
        exact: whether names that differ in upper and lower case are different, as YouTube's ids are.

    Raises:
        InputError: where it is none.
    """

    def __init__(self, root: Path, *, exact: bool = False) -> None:
        if not root.is_dir():
            raise InputError(f"{root} is a file; expected the folder of the videos, and the lists as --annotations")
        self.root, self._exact = root, exact
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in walk_videos(root):
            self._by_stem[self._key(stem_of(path.name))].append(path)

    def _key(self, stem: str) -> str:
        return stem if self._exact else stem.lower()

    def __len__(self) -> int:
        return sum(map(len, self._by_stem.values()))

    def stems(self) -> Iterator[tuple[str, Path]]:
        """Name without endings, and path, of every file."""
        for paths in self._by_stem.values():
            for path in paths:
                yield stem_of(path.name), path

    def named(self, name: str) -> list[Path]:
        """Files of a name, whatever its endings and theirs are."""
        return self._by_stem.get(self._key(stem_of(name)), [])

    def agreement(self, path: Path, folders: Iterable[str]) -> int:
        """How many of the names are folders of a file."""
        return len(set(map(plain_name, folders)) & set(map(plain_name, self.folders(path))))

    def folder_names(self) -> set[str]:
        """Plain names of all folders that files lie in."""
        return {plain_name(name) for _, path in self.stems() for name in self.folders(path)}

    def folders(self, path: Path) -> tuple[str, ...]:
        """Folders between the root and a file."""
        return path.relative_to(self.root).parts[:-1]


def plain_name(name: str) -> str:
    """A folder's or class's name for comparing: copies of Kinetics have blanks or underscores, capitals differ."""
    return name.replace("_", " ").lower()
