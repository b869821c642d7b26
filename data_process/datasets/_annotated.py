"""Lists of named videos joined with the files that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from data_process.datasets._class_names import ClassNames, is_split_folder
from data_process.datasets._files import VideoFiles, plain_name, stem_of
from data_process.datasets._listed import ListedVideo
from data_process.errors import InputError
from data_process.source import SourceListing, SourceRequest, SourceVideo, first_ten


def join(
    request: SourceRequest,
    listed: Iterable[ListedVideo],
    *,
    warnings: Iterable[str] = (),
    files: VideoFiles | None = None,
    unique_names: bool = False,
) -> SourceListing:
    """The files of listed videos, and which are missing.

    Args:
        request: folder of the videos, and the class list that numbers and spells classes.
        listed: what is looked for.
        warnings: what the adapter has to say beside.
        files: below the folder, where the adapter has them already.
        unique_names: whether a name alone says which video it is, as YouTube's ids do. Elsewhere ``kick/001`` is never
            taken for a missing ``catch/001``.

    Raises:
        InputError: for numbers whose class nothing tells, or names that fit several files equally.
    """
    listed, names = list(listed), ClassNames(request.classes)
    finder = _Finder(files or VideoFiles(request.root), names, listed, unique_names=unique_names)
    videos: list[SourceVideo] = []
    absent: list[ListedVideo] = []
    for line in listed:
        one, path = finder.find(line)
        if path is None:
            absent.append(one)
            continue
        class_name = names.of(one, finder.files.folders(path))
        videos.append(SourceVideo(path, one.id or _id(class_name, one), class_name, one.split))
    unique = list(dict.fromkeys(videos))
    told = [*warnings, *names.warnings(), *_repeats(videos), *_shared(unique)]
    return SourceListing(unique, _missing(absent, names), told)


class _Finder:
    """The file of each line of a list."""

    def __init__(
        self, files: VideoFiles, names: ClassNames, listed: Collection[ListedVideo], *, unique_names: bool
    ) -> None:
        self.files, self._names, self._unique = files, names, unique_names
        owners = {plain_name(owner) for owner in map(_owner, listed) if owner}
        self._folders_count = not unique_names and not owners.isdisjoint(files.folder_names())

    def find(self, line: ListedVideo) -> tuple[ListedVideo, Path | None]:
        """What a line means, and its file.

        Raises:
            InputError: where it can mean two files.
        """
        path = self._file(line)
        other = line.otherwise and self._file(line.otherwise)
        if path and other and line.otherwise:
            raise InputError(
                f"a line of the list means {path}, or {other} if its first number belongs to the name "
                f"{line.otherwise.name!r}; rename one of the two files"
            )
        return (line.otherwise, other) if line.otherwise and other else (line, path)

    def _file(self, one: ListedVideo) -> Path | None:
        *folders, last = Path(one.name).parts
        fitting = [path for path in self.files.named(last) if self._may_be(path, _owner(one))]
        if len(fitting) < 2:
            return fitting[0] if fitting else None
        wishes = ([*folders, one.class_name], [self._names.expected(one)], [one.split])
        agreements = {path: [self.files.agreement(path, filter(None, wish)) for wish in wishes] for path in fitting}
        best = max(agreements.values())
        equal = [path for path, agreement in agreements.items() if agreement == best]
        if not self._unique and len({self.files.folders(path)[-1:] for path in equal}) > 1:
            raise InputError(
                f"{one.name} may be any of {first_ten([str(path) for path in equal])}; nothing in the list tells "
                "which: give the folder that holds only the right one, or class folders in the list"
            )
        return next((path for path in equal if path.name == last), equal[0])

    def _may_be(self, path: Path, own: str | None) -> bool:
        """Whether a file lies in the listed folder, or in none.

        Where no folder has a name of the list's (``part_0``), folders say nothing.
        """
        inside = {plain_name(folder) for folder in self.files.folders(path) if not is_split_folder(folder)}
        return not self._folders_count or own is None or not inside or plain_name(own) in inside


def _owner(one: ListedVideo) -> str | None:
    """Class or folder that a listed video belongs to, as far as the list says."""
    folder = one.class_name or Path(one.name).parent.name
    return folder if folder and not is_split_folder(folder) else None


def _id(class_name: str | None, one: ListedVideo) -> str:
    stem = stem_of(Path(one.name).name)
    return f"{class_name}/{stem}" if class_name else stem


def _missing(absent: Iterable[ListedVideo], names: ClassNames) -> list[dict[str, str | None]]:
    """Rows of `missing.jsonl`, each once."""
    rows: dict[tuple[str, str], dict[str, str | None]] = {}
    for one in absent:
        class_name = names.expected(one)
        named = one.id or _id(class_name, one)
        rows[named, one.split] = {"id": named, "class": class_name, "split": one.split, "listed": one.name}
    return list(rows.values())


def _repeats(videos: list[SourceVideo]) -> list[str]:
    """Lists that name a video twice in the same way are common."""
    times = Counter(videos)
    twice = [one.id for one, count in times.items() if count > 1]
    return [f"{len(videos) - len(times)} lines repeat an earlier one: {first_ten(twice)}"] if twice else []


def _shared(videos: list[SourceVideo]) -> list[str]:
    """One file under two ids is stored twice, and may have two classes."""
    times = Counter(video.path for video in videos)
    shared = [str(path) for path, count in times.items() if count > 1]
    if not shared:
        return []
    return [
        f"{len(shared)} files are listed as more than one video, each of which stores the whole file: "
        f"{first_ten(shared)}; leave out all but one line of each, or cut the files"
    ]


def size_differences(name: str, found: dict[str, int], official: dict[str, int]) -> list[str]:
    """A sentence for each split whose size is not the official one."""
    return [
        f"{name}: the {split} list has {found.get(split, 0)} videos, the official one {count}"
        for split, count in official.items()
        if found.get(split, 0) != count
    ]
