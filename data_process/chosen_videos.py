"""A part of a dataset, by ids."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from data_process.errors import InputError
from data_process.frames import EncodedFrames
from data_process.records import VideoRecord
from data_process.source import first_ten
from data_process.video_set import VideoSet


class ChosenVideos:
    """Some videos of a dataset, in its order.

    Args:
        base: the dataset.
        ids: of the videos; the order and repeats do not matter.

    Raises:
        InputError: for ids that the dataset does not have, or where none are given.
    """

    def __init__(self, base: VideoSet, ids: Sequence[str]) -> None:
        wanted = frozenset(ids)
        # One walk over the dataset: half a million ids one by one take fifty times as long.
        rows = [row for row, one in enumerate(base.ids()) if one in wanted]
        if len(rows) < len(wanted):
            unknown = sorted(wanted.difference(base.ids()))
            raise InputError(
                f"{len(unknown)} ids of the subset are not in {base.name} ({base.split or 'all splits'}): "
                f"{first_ten(unknown)}"
            )
        if not rows:
            raise InputError(f"the subset of {base.name} names no videos")
        self._base, self._rows = base, np.array(rows, dtype=np.int64)

    @property
    def name(self) -> str:
        """Where the dataset lies."""
        return self._base.name

    @property
    def split(self) -> str | None:
        """Split of the dataset."""
        return self._base.split

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names of the dataset, so that labels stay what they are."""
        return self._base.classes

    @property
    def labels(self) -> np.ndarray:
        """Class index of each sample, (N,) int64; -1 where unlabelled."""
        return self._base.labels[self._rows]

    @property
    def num_frames(self) -> np.ndarray:
        """Frames of each sample, (N,) int64."""
        return self._base.num_frames[self._rows]

    @property
    def digest(self) -> str:
        """SHA-256 of the dataset's digest and the chosen rows."""
        return hashlib.sha256(self._base.digest.encode() + self._rows.astype("<i8").tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> VideoRecord:
        return self._base[int(self._rows[index])]

    def __iter__(self) -> Iterator[VideoRecord]:
        return (self[index] for index in range(len(self)))

    def ids(self) -> Iterator[str]:
        """Ids of all samples, in their order, without making a record of each."""
        chosen = np.zeros(len(self._base), dtype=bool)
        chosen[self._rows] = True
        return itertools.compress(self._base.ids(), chosen)

    def read_frames(self, index: int, frames: Sequence[int]) -> EncodedFrames:
        """Some frames of a video, as they are stored."""
        return self._base.read_frames(int(self._rows[index]), frames)

    def index_of(self, video_id: str) -> int:
        """Sample index of an id.

        Raises:
            KeyError: where it was not chosen.
        """
        row = self._base.index_of(video_id)
        place = int(np.searchsorted(self._rows, row))
        if place == len(self) or self._rows[place] != row:
            raise KeyError(f"{video_id!r} was not chosen of {self.name}")
        return place

    def is_degraded(self, index: int) -> bool:
        """Whether the decoder complained about the source of this video when it was built."""
        return self._base.is_degraded(int(self._rows[index]))
