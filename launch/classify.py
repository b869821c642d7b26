"""The test of a trained classifier, wired: a run's network and the videos of a split to accuracies and confusion."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_process.errors import InputError
from data_process.video_set import VideoSet
from engine.checkpoint import latest_checkpoint, method_weights, read_checkpoint
from engine.classify import accuracies, confusion_counts, video_scores
from engine.features import EvalConfig
from engine.world import World, join, leave
from launch.config import LoadedRun, load_run
from launch.env import check_network, rank_variables
from launch.evaluate import CONTROL_PLACES, evaluation_clips, open_videos, print_table
from launch.lists import refuse_empty, refuse_overlap
from launch.pretrain import CLASSES_FILE
from launch.results import ONE_FRAME, Results
from launch.shared_cores import share_cores
from models.method import Classifier, DatasetFacts
from pipelines.evaluation import evaluation_batches
from pipelines.loader import PipelineConfig
from pipelines.order import evaluation_slice

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier to be judged.

    Attributes:
        loaded: configuration of its run, with overrides.
        network: with its weights.
        classes: names in the order of its scores.
        origin: where the weights come from, for the table.
        folder: of the run.
    """

    loaded: LoadedRun
    network: Classifier
    classes: tuple[str, ...]
    origin: str
    folder: Path

    @property
    def config(self) -> EvalConfig:
        """The settings of evaluation; where they do not tell it, clips are normalised as in training."""
        config, form = self.loaded.config.eval, self.network.clip_format
        return replace(config, mean=config.mean or form.mean, std=config.std or form.std)


def open_classifier(path: Path, overrides: Sequence[str] = (), *, averaged: bool = False) -> TrainedClassifier:
    """The classifier of a run folder or checkpoint.

    Args:
        path: run folder, or checkpoint (``checkpoints/best`` among them).
        overrides: of the run's settings.
        averaged: the moving average of the run's weights (`train.ema`).

    Raises:
        InputError: where there is none, or the method of the run tells no classes.
    """
    checkpoint = latest_checkpoint(path)
    folder = checkpoint.parent.parent
    loaded, state = load_run(folder / "config.yaml", overrides), read_checkpoint(checkpoint)
    classes = _classes(folder, loaded)
    method = loaded.build_method(DatasetFacts(1, num_classes=len(classes)))
    if not isinstance(method, Classifier):
        raise InputError(
            f"{path} is a run of {type(method).__name__}, which tells no classes; `intravid test` judges a classifier, "
            "such as models.methods.supervised.Supervised. For a backbone there are `intravid knn` and `linear`"
        )
    try:
        method.load_state_dict(method_weights(state, averaged=averaged))
    except RuntimeError as error:
        raise InputError(f"{checkpoint} does not fit the classifier of {folder / 'config.yaml'}: {error}") from None
    origin = f"step {state.step}, averaged" if averaged else f"step {state.step}"
    return TrainedClassifier(loaded, method, classes, origin, folder)


def _classes(folder: Path, loaded: LoadedRun) -> tuple[str, ...]:
    path = folder / CLASSES_FILE
    if not path.is_file():  # of a run that is older than this file
        return loaded.config.data.open().classes
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}); expected a list of class names") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} must hold a list of class names")
    return tuple(names)


def labels_by_name(videos: VideoSet, classes: Sequence[str]) -> Tensor:
    """Labels (N,) int64 of a split in the order of a classifier's scores, whatever order its own classes have.

    Raises:
        InputError: for a video without class, or of one that the classifier does not know.
    """
    refuse_empty(videos)
    if int(videos.labels.min()) < 0:
        raise InputError(f"{videos.name}, split {videos.split}: some videos have no class, which a test needs")
    places = {name: place for place, name in enumerate(classes)}
    present = sorted(set(videos.labels.tolist()))
    absent = [videos.classes[label] for label in present if videos.classes[label] not in places]
    if absent:
        raise InputError(
            f"{len(absent)} classes of {videos.name}, split {videos.split or 'all'}, are not among the "
            f"{len(classes)} that the classifier was trained on: {', '.join(absent[:10])}; test it on the classes of "
            "its training"
        )
    order = torch.full((max(present) + 1,), -1, dtype=torch.int64)
    for label in present:
        order[label] = places[videos.classes[label]]
    return order[torch.from_numpy(videos.labels)]


def score_videos(
    network: Classifier,
    videos: VideoSet,
    config: EvalConfig,
    *,
    pipeline: PipelineConfig | None = None,
    world: World | None = None,
    frozen_frame: float | None = None,
) -> Tensor:
    """Scores (N, K) float32 of a split's videos in their order, the same on every rank.

    Args:
        network: judged in eval mode.
        videos: of 1 or more.
        config: clips, and what is averaged over them.
        pipeline: how clips become tensors.
        world: ranks that share the work.
        frozen_frame: place in [0, 1] of the one frame that all clips repeat; None for real clips.
    """
    world, pipeline = world or World(), pipeline or PipelineConfig()
    network, sharing = network.to(world.device), share_cores(world)
    mine = evaluation_slice(len(videos), rank=world.rank, world_size=world.world_size)
    batches = evaluation_batches(
        videos,
        evaluation_clips(config, frozen_frame=frozen_frame),
        config=pipeline,
        indices=mine,
        batch_size=config.batch_size,
        local_ranks=sharing,
        device=world.device,
    )
    label = f"scores, {videos.split}" if frozen_frame is None else f"one frame at {frozen_frame:.0%}"
    return video_scores(network, batches, average=config.average, world=world, label=label, total=len(mine))


def one_frame_test(
    network: Classifier, videos: VideoSet, labels: Tensor, config: EvalConfig, **given: Any
) -> dict[str, float]:
    """Accuracies where a clip repeats one frame, as `launch.evaluate.one_frame_control` averages them; `given` as in
    `score_videos`.
    """
    single = replace(config, num_clips=1)
    told = [
        accuracies(score_videos(network, videos, single, frozen_frame=place, **given), labels)
        for place in CONTROL_PLACES
    ]
    return {name: sum(one[name] for one in told) / len(told) for name in told[0]}


def named_counts(counts: Tensor, classes: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    """Counts (K, K) as class to class it was taken for to videos, without the zeros."""
    return {
        name: {other: int(count) for other, count in zip(classes, row, strict=True) if count}
        for name, row in zip(classes, counts.tolist(), strict=True)
        if any(row)
    }


def run_test(path: Path, overrides: Sequence[str], *, one_frame: bool = False, averaged: bool = False) -> int:
    """What `intravid test` does: judge, print a table, write ``eval-test.json`` into the run folder.

    Args:
        path: run folder or checkpoint.
        overrides: of its settings.
        one_frame: add the one-frame control.
        averaged: the moving average of the run's weights.
    """
    judged = open_classifier(path, overrides, averaged=averaged)
    settings, config = judged.loaded.config, judged.config
    os.environ.update(rank_variables(os.environ))
    check_network(os.environ)
    world = join(settings.dist)
    videos = world.finish_together(lambda: open_videos(settings.data, config, config.query))
    labels = labels_by_name(videos, judged.classes)
    _refuse_trained_on(videos, judged.folder)
    given = {"pipeline": settings.pipeline, "world": world}
    scores = score_videos(judged.network, videos, config, **given)
    rows = {f"{path.name or path} ({judged.origin})": accuracies(scores, labels)}
    if one_frame:
        rows[ONE_FRAME] = one_frame_test(judged.network, videos, labels, config, **given)
    leave()  # as in run_measures
    if world.is_main:
        results = Results(
            weights=judged.origin,
            data=videos.name,
            gallery="",
            gallery_videos=0,
            query=videos.split or "all",
            query_videos=len(videos),
            classes=len(judged.classes),
            settings=asdict(config),
            rows=rows,
            confusion=named_counts(confusion_counts(scores, labels), judged.classes),
        )
        print_table(results.title, rows)
        results.write(judged.folder / "eval-test.json")
    return 0


def _refuse_trained_on(videos: VideoSet, folder: Path) -> None:
    # By the run's own settings: overrides may name other data, of which nothing was learned.
    data = load_run(folder / "config.yaml").config.data
    try:
        trained_on = data.open()
    except InputError as error:
        _LOG.warning("whether the test list overlaps the training list cannot be told: %s", error)
        return
    refuse_overlap(videos, trained_on, "training list")
