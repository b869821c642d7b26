"""Lists of named videos joined with the files that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_process.datasets._files import VideoFiles, stem_of
from data_process.errors import InputError
from data_process.source import SourceListing, SourceRequest, SourceVideo, first_ten


@dataclass(frozen=True)
class ListedVideo:
    """One line of a list.

    Attributes:
        name: path as listed; its last part is looked for, its folders decide between files of one name.
        split: train, val or test.
        class_name: as the list says; None where it gives a number or nothing.
        label: number of the class; None where the list gives none.
        id: stable id; empty for the class and the name.
    """

    name: str
    split: str
    class_name: str | None = None
    label: int | None = None
    id: str = ""


def read_lines(path: Path) -> list[str]:
    """Lines of a list without ends and outer blanks; empty ones left out.

    Raises:
        InputError: where it cannot be read as text.
    """
    try:
        # Not splitlines: names may hold what Unicode calls a line separator.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list ({error}); expected text in UTF-8") from None
    return [line.strip() for line in lines if line.strip()]


def given_lists(request: SourceRequest, *, expected: str) -> list[tuple[str, Path]]:
    """Lists of ``--annotations`` with their splits.

    Raises:
        InputError: where none are given, or one does not exist.
    """
    if not request.annotations:
        raise InputError(f"the list is missing; give {expected} as --annotations [SPLIT=]FILE")
    for _, path in request.annotations:
        if not path.is_file():
            raise InputError(f"--annotations {path} does not exist; expected {expected}")
    return [(split or request.split, path) for split, path in request.annotations]


def join(
    request: SourceRequest,
    listed: Iterable[ListedVideo],
    *,
    warnings: Iterable[str] = (),
    files: VideoFiles | None = None,
) -> SourceListing:
    """The files of listed videos, and which are missing.

    The class is the one that the list names; else the folder that the file lies in; else the number's name in the class
    list. Numbers alone are not enough: several orders of the same classes circulate.

    Raises:
        InputError: for numbers without a class list and without class folders, or beyond the list.
    """
    files = files or VideoFiles(request.root)
    videos, missing, other = [], [], []
    for one in listed:
        *folders, last = Path(one.name).parts
        stem = stem_of(last)
        path = files.find(stem, (*folders, *([one.class_name] if one.class_name else [])))
        numbered = _numbered(one, request)
        if path is None:
            named = one.class_name or numbered
            missing.append({"id": one.id or _id(named, stem), "class": named, "split": one.split, "listed": one.name})
            continue
        inside = files.folders(path)
        # Folders above the class are splits; a file right below the root has no class folder.
        folder = inside[-1] if inside and inside[-1] not in (one.split, "train", "val", "test") else None
        class_name = one.class_name or folder or numbered
        if class_name is None and one.label is not None:
            raise InputError(
                f"{one.name} has the label {one.label} and lies in no class folder; give the names as --classes FILE, "
                "since lists number the same classes differently"
            )
        if folder and numbered and _differ(folder, numbered):
            other.append(f"{one.name} ({numbered})")
        videos.append(SourceVideo(path, one.id or _id(class_name, stem), class_name, one.split))
    told = [*warnings]
    if other:
        told.append(
            f"{len(other)} labels are other classes than the folders of their files say (the folders count): "
            f"{first_ten(other[:3])}; the class list has another order than the one that numbered the list"
        )
    return SourceListing(_without_repeats(videos, told), missing, told)


def _numbered(one: ListedVideo, request: SourceRequest) -> str | None:
    if one.label is None or request.classes is None:
        return None
    if not 0 <= one.label < len(request.classes):
        raise InputError(f"{one.name}: label {one.label}, the class list has {len(request.classes)} names (from 0)")
    return request.classes[one.label]


def _differ(one: str, other: str) -> bool:
    return one.replace("_", " ").lower() != other.replace("_", " ").lower()


def _id(class_name: str | None, stem: str) -> str:
    return f"{class_name}/{stem}" if class_name else stem


def _without_repeats(videos: list[SourceVideo], told: list[str]) -> list[SourceVideo]:
    """Each line once; lists that name a video twice in the same way are common."""
    unique = list(dict.fromkeys(videos))
    if len(unique) < len(videos):
        twice = [one.id for one, times in Counter(videos).items() if times > 1]
        told.append(f"{len(videos) - len(unique)} lines repeat an earlier one: {first_ten(twice)}")
    return unique


def size_differences(name: str, found: dict[str, int], official: dict[str, int]) -> list[str]:
    """A sentence for each split whose size is not the official one."""
    return [
        f"{name}: the {split} list has {found.get(split, 0)} videos, the official one {count}"
        for split, count in official.items()
        if found.get(split, 0) != count
    ]
