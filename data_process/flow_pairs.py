"""Videos of frames beside the optical flow of the same videos: whether they belong together, and which to which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from data_process.errors import InputError
from data_process.frames import EncodedFrames
from data_process.records import VideoRecord
from data_process.source import first_ten
from data_process.video_set import VideoSet


def pair_flow(frames: VideoSet, flow: VideoSet) -> np.ndarray:
    """For each video of frames the sample index of its flow, (N,) int64.

    Flow t lies between the frames t and t + 1. The two may be stored at different sizes.

    Args:
        frames: videos built with ``--modality rgb``.
        flow: the same videos, built with ``--modality flow`` from the same source.

    Raises:
        InputError: for sets of another modality, a video that one of them lacks, or flow that is not one frame shorter
            than its video.
    """
    _check_modality(frames, is_flow=False)
    _check_modality(flow, is_flow=True)
    place, unmatched = _places(frames, flow)
    surplus = np.setdiff1d(np.arange(len(flow)), place)
    if unmatched or len(surplus):
        raise InputError(_missing_text(frames, flow, unmatched, [flow[int(row)].id for row in surplus]))
    wrong = np.flatnonzero(flow.num_frames[place] != frames.num_frames - 1)
    if len(wrong):
        counts = [
            f"{frames[int(row)].id} ({frames.num_frames[row]} and {flow.num_frames[place[row]]})" for row in wrong
        ]
        raise InputError(
            f"the flow of {len(wrong)} of {len(frames)} videos is not one frame shorter than the video: "
            f"{first_ten(counts)}; build {flow.name} anew from the source and the settings of {frames.name}"
        )
    return place


class FlowOfVideos:
    """The optical flow of videos, in the order of these and under their labels.

    Args:
        frames: the videos.
        flow: their flow.
        place: (N,) for each video the index of its flow, as `pair_flow` gives it.
    """

    def __init__(self, frames: VideoSet, flow: VideoSet, place: np.ndarray) -> None:
        self._frames, self._flow, self._place = frames, flow, place

    @property
    def name(self) -> str:
        """Where the flow lies."""
        return self._flow.name

    @property
    def split(self) -> str | None:
        """Split of the videos."""
        return self._frames.split

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the videos."""
        return self._frames.classes

    @property
    def labels(self) -> np.ndarray:
        """Class index of each video, (N,) int64; -1 where unlabelled."""
        return self._frames.labels

    @property
    def num_frames(self) -> np.ndarray:
        """Frames of each flow, (N,) int64: one less than of its video."""
        return self._flow.num_frames[self._place]

    @property
    def digest(self) -> str:
        """Of both."""
        return f"{self._frames.digest}+{self._flow.digest}"

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> VideoRecord:
        return self._flow[int(self._place[index])]

    def __iter__(self) -> Iterator[VideoRecord]:
        return (self[index] for index in range(len(self)))

    def ids(self) -> Iterator[str]:
        """Ids of the videos."""
        return self._frames.ids()

    def read_frames(self, index: int, frames: Sequence[int]) -> EncodedFrames:
        """Some pictures of flow, as they are stored."""
        return self._flow.read_frames(int(self._place[index]), frames)

    def index_of(self, video_id: str) -> int:
        """Sample index of an id."""
        return self._frames.index_of(video_id)

    def is_degraded(self, index: int) -> bool:
        """Whether the decoder complained about the source of this flow when it was built."""
        return self._flow.is_degraded(int(self._place[index]))


def _check_modality(videos: VideoSet, *, is_flow: bool) -> None:
    """Look at the first video only: no build mixes them, and the executors look at every one."""
    codec = videos[0].codec
    if (codec == "flow-jpeg") != is_flow:
        wanted, modality = ("flow is", "flow") if is_flow else ("frames are", "rgb")
        raise InputError(
            f"{videos.name} holds {codec}, {wanted} wanted; give shards made by intravid build --modality {modality}"
        )


def _places(frames: VideoSet, flow: VideoSet) -> tuple[np.ndarray, list[str]]:
    """Index in `flow` of each video, -1 where it is missing; and the ids that are."""
    place, unmatched = np.full(len(frames), -1, dtype=np.int64), []
    expected = 0
    for row, record in enumerate(frames):
        # Builds of one source keep one order, so the next video is nearly always the one behind the last.
        if expected >= len(flow) or flow[expected].id != record.id:
            try:
                expected = flow.index_of(record.id)
            except KeyError:
                unmatched.append(record.id)
                continue
        place[row] = expected
        expected += 1
    return place, unmatched


def _missing_text(frames: VideoSet, flow: VideoSet, without_flow: list[str], without_frames: list[str]) -> str:
    parts = [
        f"{len(ids)} videos are in {here.name} and not in {there.name}: {first_ten(ids)}"
        for ids, here, there in ((without_flow, frames, flow), (without_frames, flow, frames))
        if ids
    ]
    return (
        f"{'; '.join(parts)}. The quarantine.jsonl of a folder says why it lacks a video; name the videos that "
        "both have in data.subset, or leave the others out by intravid repack --without"
    )
