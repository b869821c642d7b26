"""What decides the stored bytes, beside the videos and the ffmpeg build."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import get_args

from data_process.encoders import checked_quality
from data_process.errors import InputError
from data_process.optical_flow import Algorithm, opencv_version


@dataclass(frozen=True)
class FlowConfig:
    """How optical flow is computed and stored.

    Attributes:
        algorithm: dis, dis-fast, farneback or tvl1.
        bound: displacements beyond so many pixels either way are cut.
    """

    algorithm: Algorithm = "dis"
    bound: float = 20.0

    def __post_init__(self) -> None:
        if self.algorithm not in get_args(Algorithm):
            raise InputError(f"flow {self.algorithm}: expected one of {', '.join(get_args(Algorithm))}")
        if not 0 < self.bound < math.inf:
            raise InputError(f"bound {self.bound}: expected a number of pixels above 0")


@dataclass(frozen=True)
class TranscodeConfig:
    """What decides the stored bytes, beside the videos and the ffmpeg build.

    Attributes:
        short_side: pixels; larger videos are scaled down to it, smaller ones keep their size.
        codec: jpeg, mp4 (H.264, one file a video) or flow-jpeg (optical flow).
        quality: on the codec's scale: q:v of ffmpeg's JPEGs (3), crf of x264 (21), quality of flow's JPEGs (90).
        nominal_fps: of videos at about twice, three times, ... this rate every second, third, ... frame is kept.
        min_frames: videos with fewer frames are quarantined.
        strict: quarantine degraded videos, too.
        flow: of the codec flow-jpeg.
    """

    short_side: int = 256
    codec: str = "jpeg"
    quality: int | None = None
    nominal_fps: float = 30.0
    min_frames: int = 16
    strict: bool = False
    flow: FlowConfig = field(default_factory=FlowConfig)

    def __post_init__(self) -> None:
        if self.short_side < 1 or self.min_frames < 1:
            raise InputError(f"short side {self.short_side}, min frames {self.min_frames}: both must be at least 1")
        object.__setattr__(self, "quality", checked_quality(self.codec, self.quality))
        if not self.nominal_fps > 0:
            raise InputError(f"nominal fps {self.nominal_fps}: expected a rate above 0")


def settings_of(config: TranscodeConfig) -> dict[str, object]:
    """What decides the stored bytes beside ffmpeg, as plain values for the plan.

    Raises:
        InputError: for flow without OpenCV.
    """
    tools: dict[str, object] = {"opencv": opencv_version()} if config.codec == "flow-jpeg" else {}
    return {**asdict(config), **tools}
