"""Which videos a run reads: folders of shards, a split, perhaps a part of it, perhaps copied to a local disk first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_process.chosen_videos import ChosenVideos
from data_process.class_shares import hold_out, labelled_share
from data_process.errors import InputError
from data_process.flow_pairs import pair_flow
from data_process.joined_videos import JoinedVideos
from data_process.shard_file import Reader
from data_process.shards import ShardSet
from data_process.stage import stage, staged_name
from data_process.video_set import VideoSet


@dataclass(frozen=True)
class DataConfig:
    """Which videos are read, and how.

    Attributes:
        root: folder of shards, as `intravid build` makes it; or several, whose videos follow each other.
        split: train, val, test, or all.
        subset: file with the ids of the videos to read, one a line; empty for all.
        label_fraction: share of each class whose videos are read, at least one of each, for experiments with few
            labels; the others are as if they had none.
        held_out: share of each class that is then kept back from training, at least one, to choose the best model by
            (`validate.source held_out`); 0 for none.
        label_seed: of both choices, which depend on it and the ids alone.
        stage: folder on a disk of this machine that shards are copied to before they are read; empty to read them where
            they are.
        reader: pread (only the wanted bytes), or lmdb (whole values through LMDB, for comparison).
        check_crc: compare the checksum of every frame that is read.
        flow: folder of the optical flow of the same videos (`intravid build --modality flow`), or several, for methods
            that see it.
    """

    root: str | list[str] = ""
    split: str = "train"
    subset: str = ""
    label_fraction: float = 1.0
    held_out: float = 0.0
    label_seed: int = 0
    stage: str = ""
    reader: Reader = "pread"
    check_crc: bool = True
    flow: str | list[str] = ""

    def __post_init__(self) -> None:
        if not 0 < self.label_fraction <= 1:
            raise InputError(f"data.label_fraction ({self.label_fraction}) must be a share above 0, at most 1")
        if not 0 <= self.held_out < 1:
            raise InputError(f"data.held_out ({self.held_out}) must be 0 (nothing) or a share below 1")

    @property
    def roots(self) -> list[str]:
        """The folders."""
        return [self.root] if isinstance(self.root, str) else list(self.root)

    def open(self, split: str | None = None) -> VideoSet:
        """The videos of this configuration: those of its own split that are trained on, or all of another.

        Raises:
            InputError: where no root is given, it holds no such split, an id is unknown or stands in two roots, or a
                class has too few videos for what is held out.
        """
        if split is not None:
            return self._whole(split)
        return hold_out(self._known(), self.held_out, seed=self.label_seed)[0] if self.held_out else self._known()

    def open_held_out(self) -> VideoSet:
        """What `open` leaves out for validation.

        Raises:
            InputError: as `open`, and where nothing is held out.
        """
        if not self.held_out:
            raise InputError("data.held_out is 0, so no video is held out; give a share such as --data.held_out 0.1")
        return hold_out(self._known(), self.held_out, seed=self.label_seed)[1]

    @property
    def is_partial(self) -> bool:
        """Whether it is less than the whole split."""
        return bool(self.subset) or self.label_fraction < 1 or self.held_out > 0

    def _known(self) -> VideoSet:
        """The chosen videos of its own split whose labels are known."""
        videos = self._whole(self.split)
        # A subset names videos of the run's own split; galleries and queries of evaluation are whole.
        videos = ChosenVideos(videos, _ids(Path(self.subset))) if self.subset else videos
        if self.label_fraction == 1:
            return videos
        return labelled_share(videos, self.label_fraction, seed=self.label_seed)

    def _whole(self, split: str) -> VideoSet:
        if not self.roots or not all(self.roots):
            raise InputError("data.root is not set; give the folder of shards, for instance --data.root shards/")
        return self._joined(self.roots, split)

    def open_flow(self, frames: VideoSet) -> tuple[VideoSet, np.ndarray] | None:
        """The optical flow of opened videos, and for each of them its index there; None where none is given.

        Raises:
            InputError: where a video has no flow, or one of another length.
        """
        if not self.flow:
            return None
        roots = [self.flow] if isinstance(self.flow, str) else list(self.flow)
        flow = self._joined(roots, frames.split or "all")
        if self.is_partial:
            # Only the flow of the chosen videos is asked for; other roots may hold more.
            known = set(flow.ids())
            flow = ChosenVideos(flow, [video for video in frames.ids() if video in known])
        return flow, pair_flow(frames, flow)

    def _joined(self, roots: list[str], split: str) -> VideoSet:
        parts = [
            ShardSet(
                self._local(Path(root)),
                split=None if split == "all" else split,
                reader=self.reader,
                check_crc=self.check_crc,
            )
            for root in roots
        ]
        return parts[0] if len(parts) == 1 else JoinedVideos(parts)

    def _local(self, root: Path) -> Path:
        if not self.stage:
            return root
        target = Path(self.stage) / staged_name(root)
        stage(root, target)
        return target


def _ids(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data.subset {path} cannot be read ({error}); expected ids, one a line") from None
    return [line.strip() for line in lines if line.strip()]
