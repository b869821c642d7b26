"""Which videos a run reads: folders of shards, a split, perhaps a part of it, perhaps copied to a local disk first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_process.chosen_videos import ChosenVideos
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
    stage: str = ""
    reader: Reader = "pread"
    check_crc: bool = True
    flow: str | list[str] = ""

    @property
    def roots(self) -> list[str]:
        """The folders."""
        return [self.root] if isinstance(self.root, str) else list(self.root)

    def open(self, split: str | None = None) -> VideoSet:
        """The videos of this configuration, of its own split or another.

        Raises:
            InputError: where no root is given, it holds no such split, or an id is unknown or stands in two roots.
        """
        if not self.roots or not all(self.roots):
            raise InputError("data.root is not set; give the folder of shards, for instance --data.root shards/")
        videos = self._joined(self.roots, split or self.split)
        # A subset names videos of the run's own split; galleries and queries of evaluation are whole.
        return ChosenVideos(videos, _ids(Path(self.subset))) if self.subset and split is None else videos

    def open_flow(self, frames: VideoSet) -> tuple[VideoSet, np.ndarray] | None:
        """The optical flow of opened videos, and for each of them its index there; None where none is given.

        Raises:
            InputError: where a video has no flow, or one of another length.
        """
        if not self.flow:
            return None
        roots = [self.flow] if isinstance(self.flow, str) else list(self.flow)
        flow = self._joined(roots, frames.split or "all")
        if self.subset:
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
