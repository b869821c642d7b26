"""A network looked at through its videos: features, neighbours, votes; computed once and shown by several sections.

N gallery videos, Q judged ones, M clips of these, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from data_process.contact_sheet import even_numbers
from data_process.errors import InputError
from data_process.video_set import VideoSet
from engine.features import SplitFeatures, extract_features, for_cosines
from engine.knn import knn_votes
from engine.linear import fit_linear
from engine.retrieval import cosine_similarity
from engine.world import World, join
from launch.evaluate import Subject, evaluation_clips, open_subject, open_videos
from launch.report.runs import RunFolder
from pipelines.evaluation import evaluation_batches

if TYPE_CHECKING:
    from engine.features import EvalConfig

NEIGHBOURS = 5
"""Shown of each query."""


@dataclass(frozen=True)
class Seen:
    """Videos of a split as the network sees them.

    Attributes:
        videos: the split.
        chosen: (N,) sample indices of those looked at, in their order.
        labels: (N,) int64.
        values: (N, D) float32, the features that the settings of evaluation ask for.
        clips: (M, channels) float32, the pooled feature of every clip.
        of_video: (M,) int64, which of the N each clip belongs to.
    """

    videos: VideoSet
    chosen: np.ndarray
    labels: Tensor
    values: Tensor
    clips: Tensor
    of_video: Tensor

    @property
    def features(self) -> SplitFeatures:
        """Values and labels."""
        return SplitFeatures(self.values, self.labels)

    @property
    def extent(self) -> str:
        """How many were looked at, in words."""
        part = "" if len(self.chosen) == len(self.videos) else f" of {len(self.videos)}"
        return f"{len(self.chosen)}{part} {self.videos.split or ''} videos"


@dataclass(frozen=True)
class Look:
    """What is known of a run once its network has seen its videos.

    Attributes:
        run: the run.
        subject: its configuration and network, in eval mode.
        config: settings of evaluation.
        world: where it was computed.
        gallery: split that is searched.
        query: split that is judged.
        votes: (Q, classes) float64 of the kNN classifier.
        nearest: (Q, `NEIGHBOURS`) int64, places in the gallery, the nearest first.
        similarity: the same, float64 cosines.
        first_clips: (M, channels) float32, pooled features of the judged clips by the network with its first weights.
        directions: (classes, channels) float64: a pooled feature's product with a row says how much speaks for that
            class, by a linear probe on the gallery.
    """

    run: RunFolder
    subject: Subject
    config: EvalConfig
    world: World
    gallery: Seen
    query: Seen
    votes: Tensor
    nearest: Tensor
    similarity: Tensor
    first_clips: Tensor
    directions: Tensor

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return self.query.videos.classes

    @property
    def predicted(self) -> Tensor:
        """(Q,) int64, the class with most votes."""
        return self.votes.argmax(dim=1)

    def examples(self, most: int) -> list[int]:
        """Places of judged videos to be shown: the first of each class, of at most so many classes spread evenly.

        Nothing about the result decides which they are.
        """
        first = {int(label): place for place, label in reversed(list(enumerate(self.query.labels.tolist())))}
        present = sorted(first)
        return [first[present[place]] for place in even_numbers(most, len(present))]


def look_at(run: RunFolder, overrides: Sequence[str], *, most_videos: int) -> Look:
    """Let the newest weights of a run see its videos.

    Args:
        run: the run.
        overrides: of its settings, for instance where its shards are now.
        most_videos: of each split; classes keep their shares.

    Raises:
        InputError: where weights, shards or labels are missing.
        RunError: where they cannot be read.
    """
    subject = open_subject(run.path, overrides)
    config = subject.config
    world = join(subject.loaded.config.dist, {})
    given = {"config": config, "world": world, "most_videos": most_videos}
    subject = replace(subject, backbone=subject.backbone.to(world.device).eval())
    gallery, query = (_seen(subject, split, **given) for split in (config.gallery, config.query))
    if absent := sorted(set(query.labels.tolist()) - set(gallery.labels.tolist())):
        names = ", ".join(query.videos.classes[label] for label in absent[:5])
        raise InputError(f"{len(absent)} classes of the judged split are not in the gallery: {names}")
    untrained = replace(subject, backbone=subject.untrained().to(world.device).eval())
    searched, judged, mean = for_cosines(gallery.features, query.features, config)
    num_classes = max(len(query.videos.classes), int(gallery.labels.max()) + 1)
    votes = knn_votes(
        judged.values,
        searched.values,
        gallery.labels,
        num_classes=num_classes,
        neighbours=config.neighbours,
        temperature=config.temperature,
        mean=mean,
    )
    similarity = cosine_similarity(judged.values, searched.values, mean=mean)
    nearest = torch.argsort(similarity, dim=1, descending=True, stable=True)[:, :NEIGHBOURS]
    return Look(
        run=run,
        subject=subject,
        config=config,
        world=world,
        gallery=gallery,
        query=query,
        votes=votes,
        nearest=nearest,
        similarity=similarity.gather(1, nearest),
        first_clips=_seen(untrained, config.query, name="report, random network", **given).clips,
        directions=_directions(gallery, num_classes, config.linear_l2),
    )


def _seen(
    subject: Subject, split: str, *, config: EvalConfig, world: World, most_videos: int, name: str = "report"
) -> Seen:
    videos = open_videos(subject.loaded.config.data, config, split)
    chosen = _chosen(videos.labels, most_videos)
    labels = torch.from_numpy(videos.labels[chosen])
    if int(labels.min()) < 0:
        raise InputError(f"{videos.name}, split {split}: some videos have no class")
    place = {int(index): number for number, index in enumerate(chosen)}
    clips: list[Tensor] = []
    of_video: list[int] = []

    def keep(index: Tensor, maps: Tensor) -> None:
        clips.append(maps.mean(dim=(2, 3, 4)).float().cpu())
        of_video.extend(place[one] for one in index.tolist())

    batches = evaluation_batches(
        videos,
        evaluation_clips(config),
        config=subject.loaded.config.pipeline,
        indices=chosen.tolist(),
        batch_size=config.batch_size,
        device=world.device,
    )
    label = f"{name}, {split}"
    values = extract_features(
        subject.backbone, batches, config, world=world, label=label, total=len(chosen), on_clips=keep
    )
    return Seen(videos, chosen, labels, values, torch.cat(clips), torch.tensor(of_video))


def _chosen(labels: np.ndarray, most: int) -> np.ndarray:
    """Sample indices of at most so many videos, spread evenly over the classes."""
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[list(even_numbers(most, len(labels)))])


def _directions(gallery: Seen, num_classes: int, l2: float) -> Tensor:
    counts = torch.bincount(gallery.of_video, minlength=len(gallery.chosen)).double()
    sums = torch.zeros(len(counts), gallery.clips.shape[1], dtype=torch.float64)
    pooled = sums.index_add_(0, gallery.of_video, gallery.clips.double()) / counts[:, None]
    spread = pooled.std(dim=0)
    spread = torch.where(spread > 1e-12, spread, torch.ones_like(spread))
    weights, _ = fit_linear((pooled - pooled.mean(dim=0)) / spread, gallery.labels, num_classes=num_classes, l2=l2)
    return weights / spread
