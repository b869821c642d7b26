"""What is known about one stored video, without its pixels."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One stored video.

    Attributes:
        id: stable id, unique in the dataset (``class/name`` for folders).
        label: class index, -1 where unlabelled.
        split: ``train``, ``val`` or ``test``.
        codec: how the frames are stored: ``jpeg``.
        num_frames: number of stored frames.
        fps: frames per second of the stored frames.
        height: pixels, after rotation and pixel-aspect correction.
        width: pixels, likewise.
    """

    id: str
    label: int
    split: str
    codec: str
    num_frames: int
    fps: float
    height: int
    width: int
