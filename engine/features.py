"""Features of a split by a frozen backbone: clips averaged per video, ranks gathered without padding.

N videos, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_process.errors import InputError
from data_process.progress import show_progress
from engine.world import World
from models.backbone import Backbone
from models.views import residual
from pipelines.batch import ViewBatch
from pipelines.evaluation import Crops, Sampling
from pipelines.plan import Interpolation

Average = Literal["logits", "probabilities"]
Modality = Literal["rgb", "residual", "flow-u", "flow-v"]
"""What a network sees in evaluation; see `EvalConfig`."""


@dataclass(frozen=True)
class EvalConfig:
    """What retrieve, knn, linear, test and extract see and compare; the defaults are IIC's retrieval protocol.

    Attributes:
        gallery: split that is searched, and trained on by the linear probe.
        query: split that is judged.
        num_clips: clips of a video, whose features are averaged; of the samplings even, capped and drawn. The most of
            leading.
        sampling: even (spread evenly; short videos start again), capped (they stand still), drawn (at random places,
            VTDL), leading (the first windows that fit, VTDL); or as many windows as cover a video: joined (CSTP) or
            sliding (DualVar).
        crops: places of every clip, averaged too: 1 (centre), 3 (along the longer side), 5 (corners and centre) or 10
            (those and their mirror images).
        num_frames: frames a clip.
        stride: video frames from one to the next.
        size: height and width of a clip, pixels.
        resize: (height, width) that frames are thought to be resized to before the centre crop, or their shorter side
            (VTDL, CSTP); null for the largest centred square.
        interpolation: of the resize, bilinear (IIC, VTDL) or bicubic (CSTP, DualVar), as Pillow's.
        hop: frames from a leading window to the next.
        seed: of the places that the sampling drawn takes.
        mean: subtracted from clips in [0, 1], per channel; null for what the weights were trained with.
        std: divided by, likewise.
        drop_last_frame: leave out the last frame, as IIC does because flow has one frame less.
        modality: rgb; residual (scaled to [0, 1], as in pretraining); or flow-u or flow-v, a component of the optical
            flow of the videos three times, as IIC stores it (data.flow says where it is).
        feature: pooled (global average), or conv (max pool 1x2x2 of the feature map, flattened: 9,216 numbers for R3D).
        average: what `test` averages over a video's clips: logits (IIC, CSTP), or probabilities (VTDL, DualVar).
        centre: subtract the gallery's mean before cosines are taken; or `each`, as DualVar's release does: from gallery
            and query each its own.
        batch_size: videos side by side, or windows.
        neighbours: k of the kNN classifier.
        temperature: of its weights exp(cosine / temperature).
        ks: of retrieval.
        linear_l2: weight of the squared norm in the linear probe.
    """

    gallery: str = "train"
    query: str = "test"
    num_clips: int = 10
    sampling: Sampling = "even"
    crops: Crops = 1
    num_frames: int = 16
    stride: int = 1
    size: int = 112
    resize: tuple[int, int] | int | None = (128, 171)
    interpolation: Interpolation = "bilinear"
    hop: int = 10
    seed: int = 0
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    drop_last_frame: bool = False
    modality: Modality = "rgb"
    feature: Literal["pooled", "conv"] = "conv"
    average: Average = "logits"
    centre: bool | Literal["each"] = False
    batch_size: int = 8
    neighbours: int = 10
    temperature: float = 0.07
    ks: tuple[int, ...] = (1, 5, 10, 20, 50)
    linear_l2: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("num_clips", "num_frames", "stride", "size", "hop", "batch_size", "neighbours"):
            if getattr(self, name) < 1:
                raise InputError(f"eval.{name} must be at least 1, got {getattr(self, name)}")
        if min(self.ks, default=0) < 1:
            raise InputError(f"eval.ks needs one or more numbers from 1, got {self.ks}")
        if self.std is not None and min(self.std) <= 0:
            raise InputError(f"eval.std must be positive, got {list(self.std)}")
        if self.temperature <= 0 or self.linear_l2 < 0:
            raise InputError(
                "eval.temperature must be positive, eval.linear_l2 not negative; got "
                f"{self.temperature} and {self.linear_l2}"
            )


@dataclass(frozen=True)
class SplitFeatures:
    """Features of a split.

    Attributes:
        values: (N, D) float32 on the CPU, the mean over a video's clips.
        labels: (N,) int64, -1 where unlabelled.
    """

    values: Tensor
    labels: Tensor

    def beside(self, other: SplitFeatures) -> SplitFeatures:
        """The same videos with the features of another look at them behind their own, (N, D + D')."""
        return SplitFeatures(torch.cat([self.values, other.values], dim=1), self.labels)

    def centred(self) -> SplitFeatures:
        """With the mean over these videos subtracted from each."""
        return SplitFeatures(self.values - self.values.mean(dim=0), self.labels)


def for_cosines(
    gallery: SplitFeatures, query: SplitFeatures, config: EvalConfig
) -> tuple[SplitFeatures, SplitFeatures, Tensor | None]:
    """Gallery and query as `eval.centre` has them compared, and the mean (D,) that is still to be taken from both."""
    if config.centre == "each":
        return gallery.centred(), query.centred(), None
    return gallery, query, gallery.values.mean(dim=0) if config.centre else None


def clip_features(backbone: Backbone, clips: Tensor, config: EvalConfig) -> Tensor:
    """Features (B, D) of clips (B, C, T, H, W)."""
    return as_vector(feature_map(backbone, clips, config), config)


def feature_map(backbone: Backbone, clips: Tensor, config: EvalConfig) -> Tensor:
    """What the backbone makes of clips (B, C, T, H, W) in the asked-for modality, (B, channels, t, h, w)."""
    return backbone(residual(clips) if config.modality == "residual" else clips)


def as_vector(maps: Tensor, config: EvalConfig) -> Tensor:
    """Feature maps (B, channels, t, h, w) as the asked-for features (B, D)."""
    if config.feature == "pooled":
        return maps.mean(dim=(2, 3, 4))
    # Maps smaller than the window stay as they are, so that small inputs have conv features, too.
    window = (1, min(2, maps.shape[3]), min(2, maps.shape[4]))
    return functional.max_pool3d(maps, window).flatten(1)


def extract_features(
    backbone: Backbone,
    batches: Iterable[ViewBatch],
    config: EvalConfig,
    *,
    world: World,
    label: str,
    total: int,
    on_clips: Callable[[Tensor, Tensor], object] = lambda index, maps: None,
) -> Tensor:
    """Clip-averaged features (N, D) of all ranks' videos in rank order, float32 on the CPU.

    Args:
        backbone: set to eval mode here; its mode is restored.
        batches: of this rank, views are clips; rows of the same index follow each other and are averaged.
        config: which features.
        world: ranks whose parts follow each other.
        label: of the progress display, which only rank 0 shows.
        total: videos of this rank.
        on_clips: called with the indices (B,) and the feature maps of every batch of clips, for what else is wanted.
    """

    def features(index: Tensor, clips: Tensor) -> Tensor:
        maps = feature_map(backbone, clips, config)
        on_clips(index, maps)
        return as_vector(maps, config)

    return video_means(backbone, batches, features, world=world, label=label, total=total)


def video_means(
    module: nn.Module,
    batches: Iterable[ViewBatch],
    rows_of: Callable[[Tensor, Tensor], Tensor],
    *,
    world: World,
    label: str,
    total: int,
) -> Tensor:
    """Rows (N, D) of all ranks' videos in rank order, the means over a video's clips, float32 on the CPU.

    Args:
        module: what computes them, set to eval mode here; its mode is restored.
        batches: of this rank, views are clips; rows of the same index follow each other and are averaged.
        rows_of: from indices (B,) and clips (B, C, T, H, W) to rows (B, D).
        world: ranks whose parts follow each other.
        label: of the progress display, which only rank 0 shows; empty for none.
        total: videos of this rank.
    """
    videos = _Means()
    with show_progress(label, total, unit="videos") if world.is_main and label else nullcontext() as progress:
        for index, rows in clip_rows(module, batches, rows_of):
            new = videos.add(index.tolist(), rows.mean(dim=0).cpu())
            if progress:
                progress.advance(new)
    mine = videos.values()
    dims = max(world.gather(mine.shape[1]))
    return world.concatenate(mine if len(mine) else torch.empty(0, dims))


def clip_rows(
    module: nn.Module, batches: Iterable[ViewBatch], rows_of: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """For every batch its indices (B,) and the rows of its V views, (V, B, D) float32; see `video_means`."""
    was_training = module.training
    module.eval()
    try:
        for batch in batches:
            with torch.no_grad():
                rows = torch.stack([rows_of(batch.index, clips).float() for clips in batch.clips])
            yield batch.index, rows
    finally:
        module.train(was_training)


class _Means:
    """Means of rows of the same index that follow each other."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._counts: list[int] = []
        self._last: int | None = None

    def add(self, index: list[int], rows: Tensor) -> int:
        """Take rows (B, D); the number of indices that were not seen before."""
        before = len(self._sums)
        for one, row in zip(index, rows, strict=True):
            if one == self._last:
                self._sums[-1] = self._sums[-1] + row
                self._counts[-1] += 1
            else:
                self._sums.append(row)
                self._counts.append(1)
            self._last = one
        return len(self._sums) - before

    def values(self) -> Tensor:
        """(N, D), in the order in which the indices came."""
        if not self._sums:
            return torch.empty(0, 0)
        return torch.stack(self._sums) / torch.tensor(self._counts)[:, None]
