"""Weights in and out, wired: runs and exported files to safetensors with a card, and to programs of torch.export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from data_process.errors import InputError
from engine.atomic import replacing
from engine.checkpoint import RunState, backbone_weights, checkpoint_path, latest_checkpoint, read_checkpoint
from launch.config import build_method, explained
from models.backbone import Backbone
from models.method import DatasetFacts
from models.weights.architecture import OWN_LAYOUT, full_settings
from models.weights.card import Card, ClipInput
from models.weights.exported import Weights, exported_bytes, is_exported, load_weights
from models.weights.foreign_file import file_sha256

_SUFFIX = ".safetensors"


def read_settings(kind: type[Backbone], words: Sequence[str]) -> dict[str, Any]:
    """Settings of a backbone from words such as ``layers=[2,2,2,2]``.

    Raises:
        InputError: for a name that is no setting, or a value of another type.
    """
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"--set {word}: expected NAME=VALUE, such as --set layers=[2,2,2,2]")
        try:
            given[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--set {word}: {value!r} is no value in YAML") from None
    made = ArgumentParser(exit_on_error=False)
    made.add_class_arguments(kind)
    try:
        parsed = made.parse_object(full_settings(kind, given))
    except (ArgumentError, ValueError, TypeError) as error:
        raise InputError(f"--set {explained(str(error))}") from None
    return {name: parsed[name] for name in given}  # a float such as 1e-3 is a text for YAML


def open_weights(path: Path, *, step: int | None = None, averaged: bool = False, trust: bool = False) -> Weights:
    """The backbone of a run folder, of a checkpoint of ours, or of an exported file.

    Args:
        path: which.
        step: of a run folder; None for the newest checkpoint.
        averaged: the moving average of a run's weights (`train.ema`) instead of the weights.
        trust: build a class outside of intravid that an exported file names.

    Raises:
        InputError: where there is none of them, or no checkpoint of that step.
    """
    if is_exported(path):
        if step is not None:
            raise InputError(f"--step {step} is of a run folder; {path} has one state only")
        if averaged:
            raise InputError(f"--weights ema is of a run; {path} is an exported file and has one state only")
        return load_weights(path, trust=trust)[0]
    return _of_run(_checkpoint(path, step), averaged=averaged)


def out_path(out: Path) -> Path:
    """The name under which weights are written, with its ending.

    Raises:
        InputError: for another ending, or a folder.
    """
    out = out if out.suffix else out.with_suffix(_SUFFIX)
    if out.suffix != _SUFFIX:
        raise InputError(f"weights are written as {_SUFFIX}, not {out.suffix}; give {out.with_suffix(_SUFFIX)}")
    if out.is_dir():
        raise InputError(f"{out} is a folder; give the name of a file in it")
    return out


def write_weights(out: Path, weights: Weights, layout: str = OWN_LAYOUT) -> tuple[Card, list[Path]]:
    """Write a safetensors file that carries its card, and the card beside it as JSON for people.

    Returns:
        the card, and the files.

    Raises:
        InputError: for a layout that the backbone does not have, or a name that is not one of safetensors.
        RunError: if a file cannot be written.
    """
    out = out_path(out)
    content, card = exported_bytes(weights, layout)
    _make_folder(out.parent)
    beside = out.with_suffix(".json")
    for path, written in ((out, content), (beside, card.text().encode())):
        with replacing(path) as file:
            file.write(written)
    return card, [out, beside]


def write_program(out: Path, weights: Weights) -> Path:
    """Write the backbone as a program of torch.export (``.pt2``): clips of any batch size to the feature map.

    It runs in eval mode, into which the backbone is put, and takes clips of the frames and size of training only.

    Raises:
        InputError: where that size is not known.
        RunError: if the file cannot be written.
    """
    clips = weights.clips
    if clips is None:
        raise InputError(
            "--torch-export needs the frames and size of the clips, which these weights do not tell; import them with "
            "--frames and --size"
        )
    path = out_path(out).with_suffix(".pt2")
    _make_folder(path.parent)
    example = torch.zeros(2, weights.backbone.in_channels, clips.frames, clips.size, clips.size)
    batch = torch.export.Dim("batch")
    program = torch.export.export(weights.backbone.eval(), (example,), dynamic_shapes=({0: batch},))
    with replacing(path) as file:
        torch.export.save(program, file)
    return path


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder} ({error.strerror}); give a place for the file") from None


def _checkpoint(path: Path, step: int | None) -> Path:
    if step is None:
        return latest_checkpoint(path)
    if path.is_file():
        raise InputError(f"--step {step} is of a run folder; {path} is one checkpoint")
    for folder in (path, path / "checkpoints"):
        if (found := checkpoint_path(folder, step)).is_file():
            return found
    raise InputError(f"there is no checkpoint of step {step} in {path}; `ls {path / 'checkpoints'}` lists what is kept")


def _of_run(checkpoint: Path, *, averaged: bool) -> Weights:
    state = read_checkpoint(checkpoint)
    config = dict(state.facts.config)
    method = build_method(config, DatasetFacts(1, num_classes=2), seed=state.facts.seed)
    try:
        method.backbone.load_state_dict(backbone_weights(state, averaged=averaged))
    except RuntimeError as error:
        raise InputError(f"{checkpoint} does not fit the backbone of its own configuration: {error}") from None
    form = method.clip_format
    clips = ClipInput(form.num_frames, form.size, form.mean, form.std)
    return Weights(method.backbone, _settings(config, method.backbone), clips, _provenance(checkpoint, state, averaged))


def _settings(config: dict[str, Any], backbone: Backbone) -> dict[str, Any]:
    given = config["method"].get("init_args", {}).get("backbone", {})
    if not isinstance(given, dict) or "class_path" not in given:
        raise InputError(
            f"the run's method {config['method'].get('class_path')} has no setting `backbone`, so it is not known how "
            "its backbone is built; weights are exported of methods that have one"
        )
    return full_settings(type(backbone), given.get("init_args", {}))


def _provenance(checkpoint: Path, state: RunState, averaged: bool) -> dict[str, Any]:
    config = json.dumps(state.facts.config, sort_keys=True).encode()
    return {
        "source": checkpoint.name,
        "source_sha256": file_sha256(checkpoint),
        "run": Path(state.facts.config.get("run_dir", "")).name,
        "method": state.facts.config["method"]["class_path"],
        "step": state.step,
        "weights": "ema" if averaged else "trained",
        "config_sha256": hashlib.sha256(config).hexdigest(),
        "shard_digest": state.facts.shard_digest,
    }
