"""Video files that were not built into shards, read where they are and judged as a build would judge them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_process import ffmpeg
from data_process.build_plan import number_classes
from data_process.cores import available_cores
from data_process.errors import InputError, RunError
from data_process.ffmpeg import Picture
from data_process.frames import RGB, EncodedFrames
from data_process.outcome import Quarantined, Stored
from data_process.records import VideoRecord
from data_process.source import SourceRequest, SourceVideo, read_source
from data_process.transcode import transcode
from data_process.transcode_config import TranscodeConfig

_FRAMES_A_RUN = 1024
"""The times of more would not fit a command line."""


@dataclass(frozen=True)
class _File:
    """A file that can be read.

    Attributes:
        path: of the file.
        record: as a build would write it, but for the codec.
        picture: what is made of its frames.
        times: of its frames, microseconds.
        degraded: whether the decoder complained.
    """

    path: Path
    record: VideoRecord
    picture: Picture
    times: tuple[int, ...]
    degraded: bool


class RawVideos:
    """Video files as a dataset: frame k of a video is the frame k that a build would store, before it is encoded.

    Every file is decoded once to learn which frames it has, since headers are wrong about that. Frames are then read in
    a process that can be killed, from the beginning of the file to the last one that is wanted, because decoders lose
    their place when they jump in files of others. That suits looking at videos and one pass over them; training reads
    shards. Instances may be pickled and used from many threads.

    Args:
        videos: the files; those that a build would leave out are in `left_out`.
        name: where they lie, for people.
        classes: class names in the order of the labels; None takes the sorted names that occur.
        short_side: pixels; larger videos are scaled down to it.
        min_frames: shorter videos are left out.
        jobs: files that are looked through side by side; 0 takes one a core.

    Raises:
        InputError: for a class that is not in `classes`, or ids given twice.
    """

    def __init__(
        self,
        videos: Sequence[SourceVideo],
        *,
        name: str,
        classes: Sequence[str] | None = None,
        short_side: int = 256,
        min_frames: int = 1,
        jobs: int = 0,
    ) -> None:
        config = TranscodeConfig(short_side=short_side, codec=RGB, min_frames=min_frames)
        self.name = name
        self.classes, labels = number_classes(videos, classes)
        with ThreadPoolExecutor(jobs or available_cores(), thread_name_prefix="intravid-probe") as pool:
            outcomes = list(pool.map(lambda video, label: transcode(video, label, config), videos, labels))
        self._files = [_file(v, one) for v, one in zip(videos, outcomes, strict=True) if isinstance(one, Stored)]
        self.left_out: list[tuple[SourceVideo, Quarantined]] = [
            (video, one) for video, one in zip(videos, outcomes, strict=True) if isinstance(one, Quarantined)
        ]
        self._index = {file.record.id: index for index, file in enumerate(self._files)}
        if len(self._index) != len(self._files):
            raise InputError(f"{name}: ids stand for more than one file; give each video an id of its own")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> VideoRecord:
        return self._files[index].record

    def ids(self) -> Iterator[str]:
        """Ids of all samples, in order."""
        return (record.id for record in self)

    def __iter__(self) -> Iterator[VideoRecord]:
        return (file.record for file in self._files)

    @property
    def split(self) -> str | None:
        """The split that all videos have; None where they differ."""
        splits = {record.split for record in self}
        return splits.pop() if len(splits) == 1 else None

    @property
    def labels(self) -> np.ndarray:
        """Class index of each sample, (N,) int64; -1 where unlabelled."""
        return np.array([record.label for record in self], dtype=np.int64)

    @property
    def num_frames(self) -> np.ndarray:
        """Frames of each sample, (N,) int64."""
        return np.array([record.num_frames for record in self], dtype=np.int64)

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the samples' order and plans."""
        return hashlib.sha256(repr([(file.record, file.times) for file in self._files]).encode()).hexdigest()

    def index_of(self, video_id: str) -> int:
        """Sample index of an id.

        Raises:
            KeyError: where no readable video has it.
        """
        if video_id not in self._index:
            raise KeyError(f"{video_id!r} is not in {self.name}")
        return self._index[video_id]

    def is_degraded(self, index: int) -> bool:
        """Whether the decoder complained about this video."""
        return self._files[index].degraded

    def read_frames(self, index: int, frames: Sequence[int]) -> EncodedFrames:
        """Pixels of some frames of a video, in the order of their numbers and each once.

        Raises:
            RunError: where the file does not give the frames that it gave when it was looked through.
            IndexError: for a frame number that the video does not have.
        """
        file, numbers = self._files[index], tuple(sorted(set(frames)))
        if numbers and not 0 <= numbers[0] <= numbers[-1] < file.record.num_frames:
            raise IndexError(f"{file.record.id}: frames {numbers[0]}..{numbers[-1]} of {file.record.num_frames}")
        units: list[bytes] = []
        for first in range(0, len(numbers), _FRAMES_A_RUN):
            units += _read(file, numbers[first : first + _FRAMES_A_RUN])
        return EncodedFrames(RGB, numbers, tuple(units))


def _file(video: SourceVideo, found: Stored) -> _File:
    header = found.header
    return _File(
        video.path, header.as_video_record(), header.extra["picture"], header.extra["times"], header.state == "degraded"
    )


def _read(file: _File, numbers: Sequence[int]) -> list[bytes]:
    size = file.record.height * file.record.width * 3
    times = [file.times[number] for number in numbers]
    with tempfile.TemporaryFile() as pixels:
        finished = ffmpeg.to_rgb(file.path, file.picture, pixels, times)
        pixels.seek(0)
        units = [pixels.read(size) for _ in times]
        rest = pixels.read(1)
    if finished.status is None:
        raise RunError(f"{file.record.id}: no end after {file.picture.limit_s:.0f} s of reading {file.path}")
    if list(finished.times) != times or len(units[-1]) != size or rest:
        told = finished.messages[-1] if finished.messages else f"{len(finished.times)} of {len(times)} frames came"
        raise RunError(
            f"{file.record.id}: frames {numbers[0]}..{numbers[-1]} of {file.path} cannot be read any more ({told}); "
            "was the file changed?"
        )
    return units


def find_raw_videos(source: Path, *, split: str = "train") -> Sequence[SourceVideo]:
    """The video file itself, or the videos of a folder, a class per sub-folder or none.

    Raises:
        InputError: where there is nothing, or a folder without videos.
    """
    if source.is_file():
        return [SourceVideo(source, source.stem, None, split)]
    return read_source("folder", SourceRequest(source, split)).videos
