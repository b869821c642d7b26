"""Videos of frames beside the optical flow of the same videos: whether they belong together, and which to which."""

from __future__ import annotations

import numpy as np

from data_process.errors import InputError
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
