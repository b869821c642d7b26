"""What a run measures of itself, wired: videos, clips and labels to accuracies of its own network."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from data_process.class_shares import labelled_share
from data_process.errors import InputError
from data_process.source import first_ten
from data_process.video_set import VideoSet
from engine.classify import video_scores
from engine.features import EvalConfig, extract_features
from engine.knn import knn_votes
from engine.online import At, OnlineMeasure, watched
from engine.world import World
from launch.config import RunConfig
from launch.evaluate import evaluation_clips
from launch.lists import refuse_empty, refuse_overlap
from models.method import Classifier, Method
from pipelines.batch import ViewBatch
from pipelines.evaluation import evaluation_batches
from pipelines.order import evaluation_slice

_LOG = logging.getLogger(__name__)


def validation_videos(config: RunConfig, trained_on: VideoSet) -> VideoSet | None:
    """What `validate.source` names; None for none.

    Raises:
        InputError: where that holds no videos, videos that are trained on, or classes that are not.
    """
    source = config.validate.source
    if source == "none":
        return None
    if source == "held_out":
        judged = config.data.open_held_out()
    else:
        judged = config.data.open("val" if source == "val" else config.eval.query)
    refuse_empty(judged)
    refuse_overlap(judged, trained_on, "training list")
    _labels(judged, trained_on)
    return judged


def online_measures(
    config: RunConfig, trained_on: VideoSet, method: Method, *, world: World, sharing: int, steps_per_epoch: int
) -> list[OnlineMeasure]:
    """The measures that a run is asked to take of itself; called by every rank.

    Args:
        config: of the run.
        trained_on: its videos.
        method: that it trains.
        world: ranks that share the work.
        sharing: how many of them share the cores of this machine.
        steps_per_epoch: of the run.

    Raises:
        InputError: for a method that tells no classes, or videos that cannot be judged.
    """
    measures = []
    if judged := validation_videos(config, trained_on):
        if not isinstance(method, Classifier):
            raise InputError(
                f"validate.source {config.validate.source} counts how often a classifier is right, and "
                f"{type(method).__name__} tells no classes; set validate.source none (online.every_epochs 1 measures "
                "by kNN), or train models.methods.supervised.Supervised"
            )
        _tell(config, judged)
        labels, every = _labels(judged, trained_on), _steps(config.validate.every_epochs, steps_per_epoch)
        measures.append(OnlineMeasure(every, _Validation(config, judged, labels, world, sharing)))
    if config.online.every_epochs:
        every = _steps(config.online.every_epochs, steps_per_epoch)
        measures.append(OnlineMeasure(every, _Knn(config, _knn_videos(config), world, sharing)))
    return measures


def _steps(epochs: float, steps_per_epoch: int) -> int:
    return max(1, round(epochs * steps_per_epoch))


def _tell(config: RunConfig, judged: VideoSet) -> None:
    if config.validate.source == "legacy":
        _LOG.warning(
            "validate.source legacy: the best model is chosen on the %d videos of the split %s, as the originals do; "
            "what is measured on them is no test",
            len(judged),
            config.eval.query,
        )
        return
    where = f"held out of {config.data.split}" if config.validate.source == "held_out" else "of the split val"
    _LOG.info("the best model is chosen on %d videos %s", len(judged), where)


def _labels(judged: VideoSet, trained_on: VideoSet) -> Tensor:
    """Labels (N,) int64 in the order of the trained classes."""
    names = [judged.classes[label] if label >= 0 else "" for label in judged.labels.tolist()]
    known = {trained_on.classes[label]: label for label in sorted(set(trained_on.labels.tolist())) if label >= 0}
    if absent := sorted(set(names) - set(known)):
        raise InputError(
            f"{len(absent)} classes of the {len(judged)} validation videos ({judged.name}, split "
            f"{judged.split or 'all'}) have no training video: {first_ten([name or '(no class)' for name in absent])}; "
            "train on all of them, or validate on other videos"
        )
    return torch.tensor([known[name] for name in names], dtype=torch.int64)


def _knn_videos(config: RunConfig) -> VideoSet:
    online, data = config.online, config.data
    data = replace(data, root=online.root or data.root, subset="", label_fraction=1.0, held_out=0.0)
    videos = data.open(online.split)
    refuse_empty(videos)
    chosen = labelled_share(videos, min(1.0, online.num_videos / len(videos)), seed=data.label_seed)
    if len(set(chosen.labels.tolist())) < 2:
        raise InputError(
            f"online kNN needs labelled videos of at least two classes; {videos.name}, split {online.split}, has one. "
            "Name others with online.root and online.split, or set online.every_epochs 0"
        )
    return chosen


class _Judge:
    """A set of videos that is judged again and again, clip by clip in the same way."""

    def __init__(self, config: RunConfig, videos: VideoSet, world: World, sharing: int, *, num_clips: int) -> None:
        self._config, self._videos, self._world, self._sharing = config, videos, world, sharing
        self._num_clips = num_clips
        self._mine = evaluation_slice(len(videos), rank=world.rank, world_size=world.world_size)

    def settings(self, method: Method) -> EvalConfig:
        """Those of `eval`, of so many clips in the centre of the picture."""
        config, form = self._config.eval, method.clip_format
        return replace(
            config,
            num_clips=self._num_clips,
            crops=1,
            sampling="even" if config.sampling in ("leading", "joined", "sliding") else config.sampling,
            mean=config.mean or form.mean,
            std=config.std or form.std,
        )

    def batches(self, settings: EvalConfig, at: At) -> Iterator[ViewBatch]:
        """Of the part of this rank."""
        batches = evaluation_batches(
            self._videos,
            evaluation_clips(settings),
            config=self._config.pipeline,
            indices=self._mine,
            batch_size=settings.batch_size,
            local_ranks=self._sharing,
            device=self._world.device,
        )
        return watched(batches, at)


class _Validation(_Judge):
    def __init__(self, config: RunConfig, videos: VideoSet, labels: Tensor, world: World, sharing: int) -> None:
        super().__init__(config, videos, world, sharing, num_clips=config.validate.num_clips)
        self._labels = labels

    def __call__(self, method: Method, at: At) -> dict[str, float]:
        assert isinstance(method, Classifier)
        settings = self.settings(method)
        batches = self.batches(settings, at)
        scores = video_scores(
            method, batches, average=settings.average, world=self._world, label="", total=len(self._mine)
        ).double()
        right = scores.argmax(dim=1) == self._labels
        logs = scores.log_softmax(dim=1) if settings.average == "logits" else scores.clamp(min=1e-30).log()
        loss = -logs.gather(1, self._labels[:, None]).mean()
        return {"val_accuracy": float(right.double().mean()), "val_loss": float(loss)}


class _Knn(_Judge):
    def __init__(self, config: RunConfig, videos: VideoSet, world: World, sharing: int) -> None:
        super().__init__(config, videos, world, sharing, num_clips=config.online.num_clips)
        self._labels = torch.from_numpy(videos.labels)

    def __call__(self, method: Method, at: At) -> dict[str, float]:
        settings = self.settings(method)
        batches = self.batches(settings, at)
        features = extract_features(
            method.backbone, batches, settings, world=self._world, label="", total=len(self._mine)
        )
        votes = knn_votes(
            features,
            features,
            self._labels,
            num_classes=int(self._labels.max()) + 1,
            neighbours=self._config.online.neighbours,
            temperature=settings.temperature,
            mean=features.mean(dim=0) if settings.centre else None,
            leave_one_out=True,
        )
        return {"knn_accuracy": float((votes.argmax(dim=1) == self._labels).double().mean())}
