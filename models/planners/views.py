"""Clips of one video, each drawn on its own, and perhaps the label: what the baselines learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data_process.errors import InputError
from data_process.records import VideoRecord
from models.planners.single_clip import ClipDraw
from pipelines.draw import ColourJitter
from pipelines.plan import SamplePlan

AUGMENTED_CLIP = ClipDraw(
    stride=2,
    area=(0.3, 1.0),
    flip=0.5,
    colour=ColourJitter(0.4, 0.4, 0.4, 0.1, probability=0.8, grey=0.2, blur=0.5),
    drop_last_frame=False,
)
"""SimCLR's recipe, consistent over a clip: crop, mirror image, colour, grey, blur."""


@dataclass(frozen=True)
class ViewsPlanner:
    """Clips of the same distribution.

    Targets: with `labelled` the video's ``label`` () int64.

    Attributes:
        clip: how each clip is drawn.
        num_views: V.
        same_frames: all clips show the frames of the first; otherwise each has a time of its own.
        labelled: whether the label is wanted.
    """

    clip: ClipDraw = AUGMENTED_CLIP
    num_views: int = 2
    same_frames: bool = False
    labelled: bool = False

    def __call__(self, rng: np.random.Generator, record: VideoRecord) -> SamplePlan:
        """Draw one sample.

        Raises:
            InputError: for a video without a label where it is wanted.
        """
        if self.labelled and record.label < 0:
            raise InputError(
                f"{record.id} has no label; build the shards with the labels of all videos, leave it out by "
                "data.subset, or take a self-supervised method"
            )
        clips = tuple(self.clip.draw(rng, record) for _ in range(self.num_views))
        if self.same_frames:
            clips = tuple(replace(clip, frames=clips[0].frames) for clip in clips)
        targets = {"label": np.array(record.label, dtype=np.int64)} if self.labelled else {}
        return SamplePlan(clips, targets)
