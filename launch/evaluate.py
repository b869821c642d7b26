"""Downstream measures of a trained backbone, wired: shards and clips to features to retrieval, kNN and linear probe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from data_process.data_config import DataConfig
from data_process.errors import InputError
from data_process.flow_pairs import FlowOfVideos
from data_process.video_set import VideoSet
from engine.checkpoint import backbone_weights, latest_checkpoint, read_checkpoint
from engine.features import EvalConfig, SplitFeatures, extract_features, for_cosines
from engine.knn import knn_votes
from engine.linear import probe_logits
from engine.retrieval import topk_hits
from engine.world import World, join, leave
from launch.config import LoadedRun, load_run
from launch.env import check_network, rank_variables
from launch.lists import refuse_empty, refuse_overlap
from launch.results import ONE_FRAME, RANDOM, Results
from launch.shared_cores import share_cores
from models.backbone import Backbone
from models.method import DatasetFacts
from models.weights.architecture import build
from models.weights.card import ClipInput
from models.weights.exported import Weights, load_weights
from pipelines.evaluation import EvaluationClips, evaluation_batches
from pipelines.loader import PipelineConfig
from pipelines.order import evaluation_slice

MEASURES = ("retrieve", "knn", "linear")
CONTROL_PLACES = tuple((place + 0.5) / 6 for place in range(6))
"""Six places in a video for the one-frame control; a single one scatters by several points."""


@dataclass(frozen=True)
class Subject:
    """A network to be judged.

    Attributes:
        loaded: its configuration.
        backbone: with its weights.
        origin: where they come from, for the table.
        folder: where results are written; None for a recipe without a run, and for an exported file.
        mean: that its clips were normalised with in training, per channel.
        std: likewise.
        exported: the file it comes from, where that is one of `intravid export` or `import`.
    """

    loaded: LoadedRun
    backbone: Backbone
    origin: str
    folder: Path | None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    exported: Weights | None = None

    @property
    def config(self) -> EvalConfig:
        """The settings of evaluation; where they do not tell it, clips are normalised as in training."""
        config = self.loaded.config.eval
        return replace(config, mean=config.mean or self.mean, std=config.std or self.std)

    def untrained(self) -> Backbone:
        """The same network with first weights."""
        if self.exported is not None:
            return build(type(self.backbone), self.exported.settings)
        return initial_backbone(self.loaded)


def open_subject(
    path: Path, overrides: Sequence[str] = (), *, weights: Path | None = None, averaged: bool = False
) -> Subject:
    """The newest weights of a run folder or checkpoint, or the first weights of a recipe.

    Args:
        path: run folder, checkpoint or recipe.
        overrides: of its settings.
        weights: an exported file whose network is judged instead, with the data and settings of the path.
        averaged: the moving average of the run's weights (`train.ema`).

    Raises:
        InputError: where there is none of them.
    """
    checkpoint = None if path.suffix in (".yaml", ".yml") else latest_checkpoint(path)
    loaded = load_run(path if checkpoint is None else checkpoint.parent.parent / "config.yaml", overrides)
    if weights is not None:
        return _exported_subject(loaded, weights)
    method = loaded.build_method(DatasetFacts(1, num_classes=2))
    backbone, form = method.backbone, method.clip_format
    if checkpoint is None and averaged:
        raise InputError(f"--weights ema is of a run; {path} is a recipe, give the folder of its run")
    if checkpoint is None:
        return Subject(loaded, backbone, "random weights", None, form.mean, form.std)
    run_dir, state = checkpoint.parent.parent, read_checkpoint(checkpoint)
    try:
        backbone.load_state_dict(backbone_weights(state, averaged=averaged))
    except RuntimeError as error:
        raise InputError(f"{checkpoint} does not fit the backbone of {run_dir / 'config.yaml'}: {error}") from None
    origin = f"step {state.step}, averaged" if averaged else f"step {state.step}"
    return Subject(loaded, backbone, origin, run_dir, form.mean, form.std)


def _exported_subject(loaded: LoadedRun, path: Path) -> Subject:
    weights, _ = load_weights(path)
    clips = weights.clips or ClipInput(loaded.config.eval.num_frames, loaded.config.eval.size)
    return Subject(loaded, weights.backbone, f"weights {path.name}", None, clips.mean, clips.std, weights)


def initial_backbone(loaded: LoadedRun) -> Backbone:
    """The backbone with the weights that its run begins with."""
    # One row is enough where the method keeps a bank: only the backbone is wanted.
    return loaded.build_method(DatasetFacts(1, num_classes=2)).backbone


def open_videos(data: DataConfig, config: EvalConfig, split: str) -> VideoSet:
    """A split as the asked-for modality sees it: its videos, or their optical flow.

    Raises:
        InputError: where the split or its flow is not there.
    """
    videos = data.open(split)
    if not config.modality.startswith("flow"):
        return videos
    flow = data.open_flow(videos)
    if flow is None:
        raise InputError(
            f"eval.modality {config.modality} needs data.flow: the folder of the flow of the same videos, made by "
            "`intravid build --modality flow`"
        )
    return FlowOfVideos(videos, *flow)


@dataclass(frozen=True)
class SecondLook:
    """Features that are put behind the first ones of each video: another modality, or another network.

    Attributes:
        name: for the table.
        backbone: judged in eval mode.
        config: its clips, modality and features; measures are told by the first look's.
        videos: gallery and query split, as the modality sees them.
    """

    name: str
    backbone: Backbone
    config: EvalConfig
    videos: tuple[VideoSet, VideoSet]


def evaluate(
    backbone: Backbone,
    videos: tuple[VideoSet, VideoSet],
    config: EvalConfig,
    *,
    measures: Iterable[str] = MEASURES,
    pipeline: PipelineConfig | None = None,
    world: World | None = None,
    frozen_frame: float | None = None,
    name: str = "features",
    merged: SecondLook | None = None,
) -> dict[str, float]:
    """Measures in per cent, such as ``knn``, ``linear``, ``retrieve@1``.

    Args:
        backbone: judged in eval mode.
        videos: gallery and query split.
        config: clips and measures.
        measures: which of `MEASURES`.
        pipeline: how clips become tensors.
        world: ranks that share the work.
        frozen_frame: place in [0, 1] of the one frame that all clips repeat; None for real clips.
        name: of the progress display.
        merged: a second look at the same videos; the means over clips of both stand side by side in a feature, neither
            normalised (IIC's joint retrieval, ``retrieve_clips.py --merge``).

    Raises:
        InputError: for splits without videos or labels, other videos in the second look, or a query class that the
            gallery does not have.
    """
    for one in videos:
        refuse_empty(one)
    world, pipeline = world or World(), pipeline or PipelineConfig()
    given = {"pipeline": pipeline, "world": world, "sharing": share_cores(world), "frozen_frame": frozen_frame}
    gallery, query = (_features(backbone, one, config, name=f"{name}, {one.split}", **given) for one in videos)
    if merged is not None:
        _check_same_videos(videos, merged)
        label = f"{name}, {merged.name}"
        gallery, query = (
            first.beside(_features(merged.backbone, one, merged.config, name=f"{label}, {one.split}", **given))
            for first, one in zip((gallery, query), merged.videos, strict=True)
        )
    _check_labels(gallery, query, videos)
    return measures_of(gallery, query, config, measures)


def measures_of(
    gallery: SplitFeatures, query: SplitFeatures, config: EvalConfig, measures: Iterable[str] = MEASURES
) -> dict[str, float]:
    """Measures in per cent of features.

    Args:
        gallery: of N videos, all with a class.
        query: of Q videos, whose classes the gallery has.
        config: of the measures.
        measures: which of `MEASURES`.
    """
    # Of cosines alone: the linear probe has an offset of its own, which is the gallery's.
    searched, judged, mean = for_cosines(gallery, query, config)
    results: dict[str, float] = {}
    if "retrieve" in measures:
        hits = topk_hits(judged.values, query.labels, searched.values, gallery.labels, config.ks, mean=mean)
        results |= {f"retrieve@{k}": 100.0 * count / len(query.labels) for k, count in hits.items()}
    num_classes = max(int(gallery.labels.max()), int(query.labels.max())) + 1
    if "knn" in measures:
        votes = knn_votes(
            judged.values,
            searched.values,
            gallery.labels,
            num_classes=num_classes,
            neighbours=config.neighbours,
            temperature=config.temperature,
            mean=mean,
        )
        results["knn"] = _accuracy(votes, query.labels)
    if "linear" in measures:
        scores = probe_logits(
            gallery.values, gallery.labels, query.values, num_classes=num_classes, l2=config.linear_l2
        )
        results["linear"] = _accuracy(scores, query.labels)
    return results


def one_frame_control(
    backbone: Backbone,
    videos: tuple[VideoSet, VideoSet],
    config: EvalConfig,
    *,
    measures: Iterable[str] = MEASURES,
    pipeline: PipelineConfig | None = None,
    world: World | None = None,
    merged: SecondLook | None = None,
) -> dict[str, float]:
    """The same measures where a clip repeats one frame, averaged over six frames of a video that are judged apart.

    Averaging features of several frozen clips would tell what moves; one clip a video does not.
    """
    single = replace(config, num_clips=1)
    given = {"measures": measures, "pipeline": pipeline, "world": world}
    if merged is not None:
        given["merged"] = replace(merged, config=replace(merged.config, num_clips=1))
    runs = [
        evaluate(backbone, videos, single, frozen_frame=place, name=f"one frame at {place:.0%}", **given)
        for place in CONTROL_PLACES
    ]
    return {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}


def evaluation_clips(config: EvalConfig, *, frozen_frame: float | None = None) -> EvaluationClips:
    """The clips that the settings of evaluation ask for; `frozen_frame` as in `evaluate`."""
    return EvaluationClips(
        num_clips=config.num_clips,
        sampling=config.sampling,
        crops=config.crops,
        num_frames=config.num_frames,
        stride=config.stride,
        size=config.size,
        resize=config.resize,
        interpolation=config.interpolation,
        hop=config.hop,
        seed=config.seed,
        mean=config.mean or (0.0, 0.0, 0.0),
        std=config.std or (1.0, 1.0, 1.0),
        # Flow has one frame less already.
        drop_last_frame=config.drop_last_frame and not config.modality.startswith("flow"),
        modality="rgb" if config.modality == "residual" else config.modality,
        frozen_frame=frozen_frame,
    )


def _features(
    backbone: Backbone,
    videos: VideoSet,
    config: EvalConfig,
    *,
    pipeline: PipelineConfig,
    world: World,
    sharing: int,
    frozen_frame: float | None,
    name: str,
) -> SplitFeatures:
    backbone = backbone.to(world.device)
    clips = evaluation_clips(config, frozen_frame=frozen_frame)
    mine = evaluation_slice(len(videos), rank=world.rank, world_size=world.world_size)
    batches = evaluation_batches(
        videos,
        clips,
        config=pipeline,
        indices=mine,
        batch_size=config.batch_size,
        local_ranks=sharing,
        device=world.device,
    )
    values = extract_features(backbone, batches, config, world=world, label=name, total=len(mine))
    return SplitFeatures(values, torch.from_numpy(videos.labels))


def _check_same_videos(videos: tuple[VideoSet, VideoSet], merged: SecondLook) -> None:
    for one, other in zip(videos, merged.videos, strict=True):
        if list(one.ids()) != list(other.ids()):
            raise InputError(
                f"{merged.name} is to be merged, but {other.name} holds other videos than {one.name}, split {one.split}"
            )


def _check_labels(gallery: SplitFeatures, query: SplitFeatures, videos: tuple[VideoSet, VideoSet]) -> None:
    for features, one in zip((gallery, query), videos, strict=True):
        if int(features.labels.min()) < 0:
            raise InputError(f"{one.name}, split {one.split}: some videos have no class, which these measures need")
    absent = sorted(set(query.labels.tolist()) - set(gallery.labels.tolist()))
    if absent:
        names = ", ".join(videos[1].classes[label] for label in absent[:10])
        raise InputError(f"{len(absent)} classes of the query split are not in the gallery split: {names}")


def _accuracy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    return 100.0 * float((scores.argmax(dim=1) == labels).double().mean())


def results_of(
    subject: Subject,
    videos: tuple[VideoSet, VideoSet],
    rows: dict[str, dict[str, float]],
    *,
    config: EvalConfig,
    merged: str = "",
) -> Results:
    """Rows with what they were measured on, for a file; `merged` names the second look."""
    gallery, query = videos
    return Results(
        weights=f"{subject.origin}, with {merged}" if merged else subject.origin,
        data=query.name,
        gallery=gallery.split or "all",
        gallery_videos=len(gallery),
        query=query.split or "all",
        query_videos=len(query),
        classes=len(query.classes),
        settings=asdict(config) | ({"merge": merged} if merged else {}),
        rows=rows,
    )


def run_measures(
    path: Path,
    overrides: Sequence[str],
    *,
    measures: Sequence[str],
    one_frame: bool,
    random: bool,
    weights: Path | None = None,
    averaged: bool = False,
    merge: str = "",
) -> int:
    """What `intravid retrieve`, `knn` and `linear` do: judge, print a table, write `eval-NAME.json` beside the run.

    Args:
        path: run folder, checkpoint or recipe.
        overrides: of its settings.
        measures: which of `MEASURES`.
        one_frame: add the one-frame control.
        random: add the network with first weights.
        weights: exported file that is judged instead.
        averaged: the moving average of the run's weights.
        merge: a modality or another run, whose features are put behind those of the run; see `launch.merge`.
    """
    from launch.merge import open_merged

    subject = open_subject(path, overrides, weights=weights, averaged=averaged)
    config, judged = subject.loaded.config, subject.config
    second = open_merged(merge, subject, judged, overrides, averaged=averaged) if merge else None
    os.environ.update(rank_variables(os.environ))
    check_network(os.environ)
    world = join(config.dist)
    videos = world.finish_together(
        lambda: (open_videos(config.data, judged, judged.gallery), open_videos(config.data, judged, judged.query))
    )
    refuse_overlap(videos[1], videos[0], "gallery")
    given = {"measures": measures, "pipeline": config.pipeline, "world": world}
    name = f"{path.name or path} ({subject.origin})"
    if second is not None:
        given["merged"] = world.finish_together(lambda: second.look(config.data, judged))
        name += f" + {second.name}"
    rows = {name: evaluate(subject.backbone, videos, judged, **given)}
    if one_frame:
        rows[ONE_FRAME] = one_frame_control(subject.backbone, videos, judged, **given)
    if random:
        untrained = subject.untrained()
        if second is not None:
            same = second.subject is subject
            given["merged"] = replace(given["merged"], backbone=untrained if same else second.subject.untrained())
        rows[RANDOM] = evaluate(untrained, videos, judged, **given)
    leave()  # a process that ends inside of its group may be aborted by the group's own threads
    if world.is_main:
        results = results_of(subject, videos, rows, config=judged, merged=second.name if second else "")
        print_table(results.title, rows)
        if subject.folder is not None:
            for measure in measures:
                results.write(subject.folder / f"eval-{measure}.json")
    return 0


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """A table of per cents on standard output."""
    from rich.console import Console
    from rich.table import Table

    print(title)  # a title of the table would be broken to its width
    table = Table()
    table.add_column("", no_wrap=True)
    columns = list(next(iter(rows.values())))
    for column in columns:
        table.add_column(column, justify="right")
    for name, values in rows.items():
        table.add_row(name, *(f"{values[column]:.1f}" for column in columns))
    # A pipe has no width of its own; the usual 80 columns would cut the numbers.
    Console(width=None if sys.stdout.isatty() else 120).print(table)
