"""Features of every clip and video of a split into part files, shared by ranks and continued where they ended.

A part is `PART_VIDEOS` videos that follow each other, whatever the number of ranks; it is written whole or not at all.
N videos, R clips of all of them, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_process.errors import InputError
from data_process.progress import show_progress
from engine.atomic import replacing, sweep_leftovers
from engine.features import EvalConfig, clip_features, clip_rows
from engine.world import World
from models.backbone import Backbone
from pipelines.batch import ViewBatch

PART_VIDEOS = 256
"""Videos of a part: what a kill costs, and little enough for memory where every clip is kept."""

Batches = Callable[[Sequence[int]], Iterable[ViewBatch]]
"""From sample indices to the batches of their clips, as `pipelines.evaluation.evaluation_batches` gives them."""


def write_parts(
    backbone: Backbone,
    batches: Batches,
    config: EvalConfig,
    *,
    folder: Path,
    num_videos: int,
    per_clip: bool,
    world: World,
    label: str,
    part_videos: int = PART_VIDEOS,
) -> int:
    """Compute the parts that the folder does not hold yet; returns on every rank once all are there.

    Args:
        backbone: in eval mode while it is used.
        batches: of this rank's device.
        config: which features.
        folder: of the parts, seen by all ranks; made if needed.
        num_videos: N.
        per_clip: keep the features of every clip too.
        world: ranks that share the parts.
        label: of the progress display, which only rank 0 shows; it counts the videos of all ranks' finished parts.
        part_videos: videos of a part.

    Returns:
        Parts that were found finished.

    Raises:
        InputError: for a folder that other ranks do not see.
        RunError: where a part cannot be written.
    """
    if world.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_leftovers(folder)
    world.wait_for_all()
    starts = range(0, num_videos, part_videos)
    # As rank 0 sees it: the ranks must not differ in what they share out.
    open_starts = world.gather([start for start in starts if not part_path(folder, start).is_file()])[0]
    found = len(starts) - len(open_starts)
    done = num_videos - sum(min(part_videos, num_videos - start) for start in open_starts)
    with show_progress(label, num_videos, unit="videos", done=done) if world.is_main else nullcontext() as progress:
        for first in range(0, len(open_starts), world.world_size):
            turn = open_starts[first : first + world.world_size]
            if world.rank < len(turn):
                start = turn[world.rank]
                indices = range(start, min(start + part_videos, num_videos))
                _write_part(part_path(folder, start), _part(backbone, batches(indices), config, per_clip=per_clip))
            world.wait_for_all()
            if progress:
                progress.advance(sum(min(part_videos, num_videos - start) for start in turn))
    unseen = [start for start in starts if not part_path(folder, start).is_file()]
    if any(world.gather(bool(unseen))):
        raise InputError(f"{folder} is not the same folder for all ranks; name one on a disk that they share")
    return found


def part_path(folder: Path, start: int) -> Path:
    """The part whose first video has this index."""
    return folder / f"part-{start:09d}.npz"


def joined_parts(folder: Path, num_videos: int, part_videos: int = PART_VIDEOS) -> dict[str, np.ndarray]:
    """All parts one below the other: ``videos`` (N, D) float32, ``counts`` (N,) int64 clips of each video, and where
    every clip was kept ``clips`` (R, D) float32, those of a video together.
    """
    parts = []
    for start in range(0, num_videos, part_videos):
        with np.load(part_path(folder, start)) as part:
            parts.append({name: part[name] for name in part.files})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _part(
    backbone: Backbone, batches: Iterable[ViewBatch], config: EvalConfig, *, per_clip: bool
) -> dict[str, np.ndarray]:
    order: list[int] = []
    clips: list[list[Tensor]] = []
    for index, rows in clip_rows(backbone, batches, lambda _, clips: clip_features(backbone, clips, config)):
        for place, video in enumerate(index.tolist()):
            if not order or order[-1] != video:
                order.append(video)
                clips.append([])
            clips[-1].append(rows[:, place].cpu())
    of_videos = [torch.cat(one) for one in clips]
    part = {
        "videos": torch.stack([one.mean(dim=0) for one in of_videos]).numpy(),
        "counts": np.array([len(one) for one in of_videos], dtype=np.int64),
    }
    return part | ({"clips": torch.cat(of_videos).numpy()} if per_clip else {})


def _write_part(path: Path, arrays: dict[str, np.ndarray]) -> None:
    content = BytesIO()
    np.savez(content, **arrays)  # pyright: ignore[reportArgumentType] - its stubs take the names for options
    with replacing(path) as file:
        file.write(content.getbuffer())
