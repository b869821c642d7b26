"""Settings of fine-tuning, and of what a run measures of itself while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data_process.errors import InputError

FIRST_WEIGHTS = "none"
"""As `finetune.weights`: none but first weights, which is training from scratch."""


@dataclass(frozen=True)
class FinetuneConfig:
    """What a run's backbone begins with.

    Attributes:
        weights: run folder, checkpoint of a run, or exported file; ``none`` for first weights; empty for a run that is
            no fine-tuning. Read at the first start alone: a run that goes on has them in its checkpoint.
        averaged: take the moving average of that run's weights (`train.ema`).
    """

    weights: str = ""
    averaged: bool = False

    @property
    def path(self) -> str:
        """What is read; empty for first weights."""
        return "" if self.weights == FIRST_WEIGHTS else self.weights


@dataclass(frozen=True)
class ValidationConfig:
    """How often a classifier is right about videos that it is not trained on, measured while it trains.

    Gives ``eval/val_accuracy`` (top-1, 0 to 1) and ``eval/val_loss`` (cross-entropy of a video's averaged scores), of
    clips spread evenly over each video and cut in its centre, with the other settings of `eval`.

    Attributes:
        source: none; held_out, the part of the training list that `data.held_out` keeps back; val, the dataset's own
            validation split; legacy, the test split (`eval.query`), as the originals choose their best model: numbers
            on it are too good.
        every_epochs: epochs between two measurements, also parts of one; the end of the run is measured too.
        num_clips: clips of a video, whose scores are averaged.
    """

    source: Literal["none", "held_out", "val", "legacy"] = "none"
    every_epochs: float = 1.0
    num_clips: int = 3

    def __post_init__(self) -> None:
        if self.every_epochs <= 0 or self.num_clips < 1:
            raise InputError(
                "validate.every_epochs must be above 0 and validate.num_clips at least 1, got "
                f"{self.every_epochs} and {self.num_clips}"
            )


@dataclass(frozen=True)
class OnlineConfig:
    """kNN on a small labelled set while a method is pretrained.

    Gives ``eval/knn_accuracy`` (0 to 1): each video's class is told by its nearest neighbours among the others of the
    set, itself left out. Labels are used for this number alone.

    Attributes:
        every_epochs: epochs between two measurements, also parts of one, and at the end of the run; 0 for none.
        root: folder of shards, or several; empty for those of the run.
        split: of them. That of the training needs no labels of what is tested later.
        num_videos: of the set, a share of each class; as many as there are where there are fewer.
        num_clips: clips of a video, whose features are averaged.
        neighbours: k.
    """

    every_epochs: float = 0.0
    root: str | list[str] = ""
    split: str = "train"
    num_videos: int = 512
    num_clips: int = 1
    neighbours: int = 10

    def __post_init__(self) -> None:
        if self.every_epochs < 0 or self.num_videos < 2 or min(self.num_clips, self.neighbours) < 1:
            raise InputError(
                "online.every_epochs must not be negative, online.num_videos at least 2, online.num_clips and "
                f"online.neighbours at least 1; got {self.every_epochs}, {self.num_videos}, {self.num_clips}, "
                f"{self.neighbours}"
            )
