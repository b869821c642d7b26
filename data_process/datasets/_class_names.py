"""Which class a listed video has, by the list's name, the class list and the folder of its file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_process.datasets._files import plain_name
from data_process.datasets._listed import ListedVideo
from data_process.errors import InputError
from data_process.source import first_ten

_SPLIT_FOLDER = re.compile(r"(videos?_)?(train|val|valid|validate|validation|test)(_?\d+)?", re.IGNORECASE)
"""Folders of splits as downloads name them: ``train``, ``val_256``, ``videos_test``; never of a class."""


def is_split_folder(name: str) -> bool:
    """Whether a folder is one of a split, and so of no class."""
    return _SPLIT_FOLDER.fullmatch(name) is not None


class ClassNames:
    """Classes of the videos of one source.

    A name in a list counts. A number counts as the class list says, unless the file lies in the folder of another class
    of that list: four orders of HMDB51's classes circulate, folders do not lie. Without a class list, a number's class
    is the folder, and only where folders and numbers go together one to one.

    Args:
        listed: class names in the order of the labels, whose spelling is the one stored; None where not given.
    """

    def __init__(self, listed: tuple[str, ...] | None) -> None:
        self._listed = listed
        self._spelling = {plain_name(name): name for name in reversed(listed or ())}
        self._spelling |= {name: name for name in listed or ()}
        self._folder_of: dict[int, str] = {}
        self._label_of: dict[str, int] = {}
        self._contradicted: list[str] = []

    def of(self, one: ListedVideo, folders: Sequence[str]) -> str | None:
        """Class of a video whose file lies in `folders`, outermost first; None where unlabelled.

        Raises:
            InputError: for a number whose class nothing tells.
        """
        if one.class_name is not None:
            return self._spelled(one.class_name)
        if self._listed is None:
            return None if one.label is None else self._by_folder(one, one.label, folders)
        expected = self.expected(one)
        known = [self._spelling[plain_name(name)] for name in folders if plain_name(name) in self._spelling]
        if not known or known[-1] == expected:
            return expected
        if expected is not None:
            self._contradicted.append(f"{one.name} ({expected})")
        return known[-1]

    def expected(self, one: ListedVideo) -> str | None:
        """Class of a video whose file is not known: by name, class list, or the folders of the same number so far.

        Raises:
            InputError: for a number beyond the class list.
        """
        if one.class_name is not None:
            return self._spelled(one.class_name)
        if one.label is None:
            return None
        if self._listed is None:
            return self._folder_of.get(one.label)
        if one.label >= len(self._listed):
            raise InputError(f"{one.name}: label {one.label}, the class list has {len(self._listed)} names (from 0)")
        return self._listed[one.label]

    def warnings(self) -> list[str]:
        """What a person should know about the classes given so far."""
        if not self._contradicted:
            return []
        return [
            f"{len(self._contradicted)} labels are other classes than the folders of their files say (the folders "
            f"count): {first_ten(self._contradicted[:3])}; the class list has another order than the one that "
            "numbered the list"
        ]

    def _spelled(self, name: str) -> str:
        return self._spelling.get(name) or self._spelling.get(plain_name(name), name)

    def _by_folder(self, one: ListedVideo, label: int, folders: Sequence[str]) -> str:
        mend = "give the names as --classes FILE, since lists number the same classes differently"
        folder = folders[-1] if folders else ""
        if not folder or is_split_folder(folder):
            raise InputError(f"{one.name} has the label {label} and lies in no class folder; {mend}")
        first_folder = self._folder_of.setdefault(label, folder)
        first_label = self._label_of.setdefault(plain_name(folder), label)
        if plain_name(first_folder) != plain_name(folder) or first_label != label:
            raise InputError(
                f"{one.name} has the label {label} and lies in {folder}, but label {label} is in {first_folder} and "
                f"{folder} has label {first_label}, too: folders are not classes here; {mend}"
            )
        return first_folder
