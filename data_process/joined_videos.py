"""Several datasets as one."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from data_process.errors import InputError
from data_process.frames import EncodedFrames
from data_process.records import VideoRecord
from data_process.source import first_ten
from data_process.video_set import VideoSet


class JoinedVideos:
    """Several datasets one behind the other; nothing is copied.

    Classes are joined by name: those of the first dataset keep their numbers, further names follow in the order in
    which they come.

    Args:
        parts: the datasets.

    Raises:
        InputError: for an id that stands in two of them.
    """

    def __init__(self, parts: Sequence[VideoSet]) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        self.classes: tuple[str, ...] = tuple(dict.fromkeys(name for part in parts for name in part.classes))
        place = {name: number for number, name in enumerate(self.classes)}
        # One more entry, so that -1 stays what it is.
        self._labels = [np.array([*(place[name] for name in part.classes), -1]) for part in parts]
        self._refuse_twice()

    def _refuse_twice(self) -> None:
        """Compare hashes of 8 bytes an id, the ids only where those agree: strings of a million take ten times that."""
        hashes = np.fromiter(map(hash, self.ids()), dtype=np.int64, count=len(self))
        ordered = np.sort(hashes)
        suspects = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(suspects):
            return
        seen = Counter(itertools.compress(self.ids(), np.isin(hashes, suspects)))
        ids = sorted(one for one, times in seen.items() if times > 1)
        if ids:
            raise InputError(
                f"{len(ids)} ids stand in more than one of {self.name}: {first_ten(ids)}; a video must not be sampled "
                "twice: leave it out by data.subset, or repack one of them with --without"
            )

    @property
    def name(self) -> str:
        """Folders of the parts."""
        return ", ".join(part.name for part in self._parts)

    @property
    def split(self) -> str | None:
        """Split of the parts."""
        return self._parts[0].split

    @property
    def labels(self) -> np.ndarray:
        """Class index of each sample, (N,) int64; -1 where unlabelled."""
        return np.concatenate([map_[part.labels] for part, map_ in zip(self._parts, self._labels, strict=True)])

    @property
    def num_frames(self) -> np.ndarray:
        """Frames of each sample, (N,) int64."""
        return np.concatenate([part.num_frames for part in self._parts])

    @property
    def digest(self) -> str:
        """SHA-256 of the parts' digests, in order."""
        return hashlib.sha256("".join(part.digest for part in self._parts).encode()).hexdigest()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _locate(self, index: int) -> tuple[int, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        part = int(np.searchsorted(self._ends, index, side="right"))
        return part, index - (int(self._ends[part - 1]) if part else 0)

    def __getitem__(self, index: int) -> VideoRecord:
        part, row = self._locate(index)
        record = self._parts[part][row]
        return replace(record, label=int(self._labels[part][record.label]))

    def __iter__(self) -> Iterator[VideoRecord]:
        return (self[index] for index in range(len(self)))

    def ids(self) -> Iterator[str]:
        """Ids of all samples, in their order, without making a record of each."""
        return itertools.chain.from_iterable(part.ids() for part in self._parts)

    def read_frames(self, index: int, frames: Sequence[int]) -> EncodedFrames:
        """Some frames of a video, as they are stored."""
        part, row = self._locate(index)
        return self._parts[part].read_frames(row, frames)

    def index_of(self, video_id: str) -> int:
        """Sample index of an id.

        Raises:
            KeyError: where no part has it.
        """
        for number, part in enumerate(self._parts):
            try:
                return part.index_of(video_id) + (int(self._ends[number - 1]) if number else 0)
            except KeyError:
                continue
        raise KeyError(f"{video_id!r} is not in {self.name}")

    def is_degraded(self, index: int) -> bool:
        """Whether the decoder complained about the source of this video when it was built."""
        part, row = self._locate(index)
        return self._parts[part].is_degraded(row)
