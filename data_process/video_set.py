"""What a dataset of shards is to its readers, whether it is one folder, several, or a part of either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from data_process.frames import EncodedFrames
from data_process.records import VideoRecord


class VideoSet(Protocol):
    """Stored videos addressed by sample index; `data_process.shards.ShardSet` tells more of each member."""

    @property
    def name(self) -> str:
        """Where it lies, for people."""
        ...

    @property
    def split(self) -> str | None:
        """Its split; None for all."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """Class index of each sample, (N,) int64; -1 where unlabelled."""
        ...

    @property
    def num_frames(self) -> np.ndarray:
        """Frames of each sample, (N,) int64."""
        ...

    @property
    def digest(self) -> str:
        """What decides the samples' order and plans."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> VideoRecord: ...

    def __iter__(self) -> Iterator[VideoRecord]: ...

    def ids(self) -> Iterator[str]:
        """Ids of all samples, in their order, without making a record of each."""
        ...

    def read_frames(self, index: int, frames: Sequence[int]) -> EncodedFrames:
        """Some frames of a video, as they are stored."""
        ...

    def index_of(self, video_id: str) -> int:
        """Sample index of an id."""
        ...

    def is_degraded(self, index: int) -> bool:
        """Whether the decoder complained when it was built."""
        ...
