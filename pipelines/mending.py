"""What a run does about stored frames that turn out damaged: each is told, shown as its neighbour, and counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from data_process.decoding import decode
from data_process.errors import RunError
from data_process.frames import STREAMS, EncodedFrames
from data_process.records import VideoRecord
from pipelines.source import VideoStore

_log = logging.getLogger(__name__)
Value = TypeVar("Value")


class Mender:
    """Puts the nearest intact frame of the same sample in the place of a damaged one, up to a number of frames.

    What a sample shows depends on its plan and on what is stored, not on ranks, threads or the step of a resume. A
    video of which nothing is intact, or that is stored as one stream, cannot be mended.

    Args:
        most: different damaged frames before the run fails; 0 fails at the first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    @property
    def num_damaged(self) -> int:
        """Different damaged frames so far."""
        return len(self._known)

    def read(self, videos: VideoStore, index: int, frames: Sequence[int]) -> EncodedFrames:
        """Stored frames of a video; as `VideoStore.read_frames`, mended.

        Raises:
            RunError: where nothing can be mended, or past the limit.
        """
        try:
            return videos.read_frames(index, frames)
        except RunError:
            record = videos[index]
            if not self._may_mend(record):
                raise
        numbers = tuple(sorted(set(frames)))
        units = self._mended(record, numbers, lambda number: videos.read_frames(index, [number]).units[0])
        return EncodedFrames(record.codec, numbers, tuple(units[number] for number in numbers))

    def decode(self, encoded: EncodedFrames, record: VideoRecord) -> dict[int, np.ndarray]:
        """Pixels of frames; as `data_process.decoding.decode`, mended.

        Raises:
            RunError: where nothing can be mended, or past the limit.
        """
        try:
            return decode(encoded, record)
        except RunError:
            if not self._may_mend(record):
                raise
        one_by_one = _by_number(encoded)
        return self._mended(record, encoded.numbers, lambda number: decode(one_by_one[number], record)[number])

    def checked(
        self, encoded: EncodedFrames, record: VideoRecord, check: Callable[[bytes, VideoRecord, int], None]
    ) -> EncodedFrames:
        """The same frames, with those mended of which a check says that they are damaged.

        Raises:
            RunError: where nothing can be mended, or past the limit.
        """
        units = dict(zip(encoded.numbers, encoded.units, strict=True))
        try:
            for number, unit in units.items():
                check(unit, record, number)
        except RunError:
            if not self._may_mend(record):
                raise
        else:
            return encoded

        def intact(number: int) -> bytes:
            check(units[number], record, number)
            return units[number]

        mended = self._mended(record, encoded.numbers, intact)
        return EncodedFrames(encoded.codec, encoded.numbers, tuple(mended[number] for number in encoded.numbers))

    def _may_mend(self, record: VideoRecord) -> bool:
        return self._most > 0 and record.codec not in STREAMS

    def _mended(self, record: VideoRecord, numbers: Iterable[int], get: Callable[[int], Value]) -> dict[int, Value]:
        intact: dict[int, Value] = {}
        damaged: dict[int, RunError] = {}
        for number in numbers:
            try:
                intact[number] = get(number)
            except RunError as error:
                damaged[number] = error
        shown = {}
        for number, error in damaged.items():
            if not intact:
                raise error
            shown[number] = min(intact, key=lambda other: (abs(other - number), other))
            self._tell(record, number, error, shown[number])
        return intact | {number: intact[other] for number, other in shown.items()}

    def _tell(self, record: VideoRecord, number: int, error: RunError, shown: int) -> None:
        with self._lock:
            if (record.id, number) in self._known:
                return
            self._known.add((record.id, number))
            count = len(self._known)
        if count > self._most:
            raise RunError(f"damaged frame {count}, more than pipeline.max_damaged_frames {self._most}: {error}")
        _log.warning("damaged frame %d of at most %d, frame %d is shown: %s", count, self._most, shown, error)


@dataclass(frozen=True)
class MendedVideos:
    """A video store whose frames come through a mender."""

    videos: VideoStore
    mender: Mender

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> VideoRecord:
        return self.videos[index]

    def read_frames(self, index: int, frames: Sequence[int]) -> EncodedFrames:
        """Some frames, each once, as they are stored or mended."""
        return self.mender.read(self.videos, index, frames)


def _by_number(encoded: EncodedFrames) -> dict[int, EncodedFrames]:
    return {
        number: EncodedFrames(encoded.codec, (number,), (unit,))
        for number, unit in zip(encoded.numbers, encoded.units, strict=True)
    }
