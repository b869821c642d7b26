"""Features of splits as arrays, wired: a backbone and videos to NAME.npy and its index NAME.json."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_process.errors import InputError
from data_process.video_set import VideoSet
from engine.atomic import replacing
from engine.extract import joined_parts, write_parts
from engine.features import EvalConfig
from engine.world import World, join, leave
from launch.env import check_network, rank_variables
from launch.evaluate import Subject, evaluation_clips, open_subject, open_videos
from launch.lists import refuse_empty
from launch.shared_cores import share_cores
from models.weights.architecture import class_path
from models.weights.tensor_file import tensor_file_bytes, tensors_sha256
from pipelines.evaluation import evaluation_batches
from pipelines.loader import PipelineConfig

FORMAT = 1
_PLAIN = ("num_clips", "sampling", "hop", "seed", "crops", "num_frames", "stride", "size", "resize", "interpolation")
_CLIPS = (*_PLAIN, "mean", "std", "drop_last_frame", "modality", "feature")
"""Settings of evaluation that decide the features; a batch size does not."""

_LOG = logging.getLogger(__name__)


def extract(
    subject: Subject,
    videos: VideoSet,
    out: Path,
    *,
    per_clip: bool = False,
    safetensors: bool = False,
    pipeline: PipelineConfig | None = None,
    world: World | None = None,
) -> list[Path]:
    """Write the features of a split; the files that were written, on every rank.

    ``SPLIT.npy`` (N, D) float32 has a row for each video, ``SPLIT-clips.npy`` (R, D) one for each clip; ``SPLIT.json``
    tells ids, labels and clips of the rows, and the network and settings that made them. Finished parts of a run that
    was ended are taken up again, and a finished table is left as it is.

    Args:
        subject: network and settings.
        videos: of 1 or more.
        out: folder, seen by all ranks.
        per_clip: every clip too.
        safetensors: write the same arrays as ``SPLIT.safetensors`` too.
        pipeline: how clips become tensors.
        world: ranks that share the work.

    Raises:
        InputError: where the folder holds features of this split by another network, other clips or other videos.
    """
    refuse_empty(videos)
    world, pipeline, config = world or World(), pipeline or PipelineConfig(), subject.config
    name = videos.split or "all"
    made_by = _made_by(subject, videos, per_clip=per_clip)
    parts = out / f".{name}-parts"
    # Every rank looks, so that all of them stop; the first to write is behind a meeting of all.
    _refuse_other(out / f"{name}.json", made_by)
    _refuse_other(parts / "made_by.json", made_by)
    kinds = [f"{name}.npy", *([f"{name}-clips.npy"] if per_clip else [])]
    files = [out / one for one in (*kinds, *([f"{name}.safetensors"] if safetensors else []), f"{name}.json")]
    if world.gather(_is_there(files, made_by))[0]:
        _LOG.info("%s is finished: nothing is left to do", files[-1])
        return files
    if world.is_main:
        parts.mkdir(parents=True, exist_ok=True)
        _write(parts / "made_by.json", _text(made_by))
    backbone, sharing, clips = subject.backbone.to(world.device), share_cores(world), evaluation_clips(config)
    found = write_parts(
        backbone,
        lambda indices: evaluation_batches(
            videos,
            clips,
            config=pipeline,
            indices=indices,
            batch_size=config.batch_size,
            local_ranks=sharing,
            device=world.device,
        ),
        config,
        folder=parts,
        num_videos=len(videos),
        per_clip=per_clip,
        world=world,
        label=f"features, {name}",
    )
    if found and world.is_main:
        _LOG.info("%s: %d finished parts of %d videos were taken up again", parts, found, len(videos))
    if world.is_main:
        _join(out, name, parts, videos, made_by, safetensors=safetensors)
    world.wait_for_all()
    return files


def _is_there(files: Sequence[Path], made_by: Mapping[str, Any]) -> bool:
    if not all(path.is_file() for path in files):
        return False
    return json.loads(files[-1].read_text(encoding="utf-8"))["per_clip"] or not made_by["per_clip"]


def _made_by(subject: Subject, videos: VideoSet, *, per_clip: bool) -> dict[str, Any]:
    # The index of shards tells order and lengths; ids tell the videos also where two datasets are alike in these.
    ids = hashlib.sha256("\n".join(videos.ids()).encode()).hexdigest()
    return {
        "format": FORMAT,
        "backbone": class_path(type(subject.backbone)),
        "weights_sha256": tensors_sha256(subject.backbone.state_dict()),
        "videos": {"digest": videos.digest, "ids_sha256": ids, "count": len(videos)},
        "settings": _decisive(subject.config),
        "per_clip": per_clip,
    }


def _decisive(config: EvalConfig) -> dict[str, Any]:
    settings = {name: value for name, value in asdict(config).items() if name in _CLIPS}
    return json.loads(json.dumps(settings))  # tuples become lists, as when read again


def _refuse_other(path: Path, made_by: Mapping[str, Any]) -> None:
    if not path.is_file():
        return
    try:
        then = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}); move it away, or name another folder with -o") from None
    if isinstance(then, dict) and isinstance(then.get("settings"), dict):
        # What a table that is older than a setting was made with.
        then["settings"] = _decisive(EvalConfig()) | then["settings"]
    other = [name for name in made_by if not isinstance(then, dict) or then.get(name) != made_by[name]]
    if "per_clip" in other and path.name != "made_by.json":
        other.remove("per_clip")  # a finished table may be made anew with its clips
    if other:
        names = {"weights_sha256": "weights of another model", "backbone": "another backbone"}
        told = ", ".join(names.get(one, f"other {one}") for one in other)
        raise InputError(
            f"{path.parent} holds features of other making: {told} ({path.name}); name another folder with -o, or "
            "remove this one"
        )


def _join(
    out: Path, name: str, parts: Path, videos: VideoSet, made_by: Mapping[str, Any], *, safetensors: bool
) -> None:
    arrays = joined_parts(parts, len(videos))
    counts = arrays.pop("counts")
    files = {"videos": f"{name}.npy", "clips": f"{name}-clips.npy"}
    for kind, values in arrays.items():
        content = BytesIO()
        np.save(content, values)
        _write(out / files[kind], content.getvalue())
    index = {
        **made_by,
        "data": videos.name,
        "split": name,
        "files": {kind: files[kind] for kind in arrays},
        "shape": list(arrays["videos"].shape),
        "classes": list(videos.classes),
        "ids": list(videos.ids()),
        "labels": videos.labels.tolist(),
        "clips_per_video": counts.tolist(),
    }
    if safetensors:
        tensors = {kind: torch.from_numpy(values) for kind, values in arrays.items()}
        tensors |= {"labels": torch.from_numpy(videos.labels), "clips_per_video": torch.from_numpy(counts)}
        _write(out / f"{name}.safetensors", tensor_file_bytes(tensors, json.dumps(index)))
    _write(out / f"{name}.json", _text(index))  # last: a table with its index is whole
    shutil.rmtree(parts)


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode()


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def run_extract(
    path: Path,
    overrides: Sequence[str],
    out: Path,
    *,
    splits: Sequence[str] = (),
    per_clip: bool = False,
    safetensors: bool = False,
    weights: Path | None = None,
    averaged: bool = False,
) -> int:
    """What `intravid extract` does: the features of splits into a folder, one after the other.

    Args:
        path: run folder, checkpoint or recipe.
        overrides: of its settings.
        out: folder.
        splits: to extract; none for eval.gallery and eval.query.
        per_clip: every clip too.
        safetensors: safetensors too.
        weights: exported file whose network is used instead.
        averaged: the moving average of the run's weights.
    """
    subject = open_subject(path, overrides, weights=weights, averaged=averaged)
    config = subject.loaded.config
    os.environ.update(rank_variables(os.environ))
    check_network(os.environ)
    world = join(config.dist)
    wanted = dict.fromkeys(splits or (config.eval.gallery, config.eval.query))
    opened = world.finish_together(lambda: [open_videos(config.data, subject.config, split) for split in wanted])
    given = {"per_clip": per_clip, "safetensors": safetensors, "pipeline": config.pipeline, "world": world}
    written = [path for videos in opened for path in extract(subject, videos, out, **given)]
    leave()  # as in run_measures
    if world.is_main:
        for one in written:
            print(one)
    return 0
