"""The weights that a fine-tuning begins with: those of a run, a checkpoint or an exported file, whole or not at all."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import yaml

from data_process.errors import InputError
from engine.checkpoint import saved_in
from engine.resume import Resume
from launch.downstream_config import FIRST_WEIGHTS, FinetuneConfig
from launch.weights import open_weights
from models.backbone import Backbone
from models.method import Method
from models.weights.architecture import class_path, naming
from models.weights.card import ClipInput
from models.weights.exported import Weights
from models.weights.match import Place, match_at
from models.weights.report import refuse

_LOG = logging.getLogger(__name__)
_OF_FIRST_WEIGHTS = ("legacy_init",)
"""Settings of backbones that say how first weights are drawn, and nothing of what the network computes."""


def begins(resume: Resume, run_dir: Path) -> bool:
    """Whether a run begins with first weights, rather than goes on from a checkpoint."""
    own = bool(saved_in(run_dir / "checkpoints"))
    if resume.source == "auto" or (resume.restarted and own):
        return not own
    return resume.source == "none"


def refuse_other_weights(config: FinetuneConfig, run_dir: Path) -> None:
    """Refuse to go on with a run that began with other weights than are named now.

    Raises:
        InputError: naming both.
    """
    own = run_dir / "config.yaml"
    told = yaml.safe_load(own.read_text(encoding="utf-8")) if own.is_file() else {}
    then = told.get("finetune", {}).get("weights") or ""
    if then and _place(then) != _place(config.weights):
        raise InputError(
            f"the run in {run_dir} began with the weights {then}, not {config.weights}; leave --weights as it was, "
            "name another --run_dir, or begin anew with --resume none --start-over"
        )


def _place(weights: str) -> str:
    return weights if weights == FIRST_WEIGHTS else os.path.abspath(weights)


def load_initial(method: Method, config: FinetuneConfig, settings: dict[str, Any]) -> None:
    """Give the backbone of a method the weights that a fine-tuning begins with.

    Args:
        method: just built.
        config: which weights.
        settings: of the method, plain, for the network that it asks for.

    Raises:
        InputError: where there are none, or they are of another backbone.
    """
    if not config.path:
        _LOG.info("finetune.weights none: the backbone begins with first weights")
        return
    path = Path(config.path)
    weights = open_weights(path, averaged=config.averaged)
    _refuse_other(weights, method.backbone, settings, path)
    _take(weights, method.backbone, path)
    _warn_of_clips(weights.clips, method, path)


def input_of(config: FinetuneConfig, run_dir: Path, *, begins: bool) -> tuple[list[float], list[float]] | None:
    """Mean and deviation per channel that the weights were trained with; None where that is not known.

    A run that goes on has them in its own config.yaml: the weights may be gone by then.
    """
    own = run_dir / "config.yaml"
    if not begins and own.is_file():
        given = yaml.safe_load(own.read_text(encoding="utf-8"))["method"].get("init_args", {})
        return (given["mean"], given["std"]) if given.get("mean") and given.get("std") else None
    clips = open_weights(Path(config.path), averaged=config.averaged).clips if config.path else None
    return (list(clips.mean), list(clips.std)) if clips else None


def _refuse_other(weights: Weights, backbone: Backbone, settings: dict[str, Any], path: Path) -> None:
    given = settings.get("init_args", {}).get("backbone", {})
    if type(weights.backbone) is not type(backbone):
        raise InputError(
            f"{path} holds weights of {class_path(type(weights.backbone))}, but method.backbone is "
            f"{class_path(type(backbone))}; name the backbone that the weights are of, or other weights"
        )
    asked = dict(given.get("init_args") or {}) if isinstance(given, dict) else {}
    other = [
        f"{name} {weights.settings[name]} instead of {asked[name]}"
        for name in asked
        if name in weights.settings and name not in _OF_FIRST_WEIGHTS and weights.settings[name] != asked[name]
    ]
    if other:
        raise InputError(
            f"{path} holds weights of another {type(backbone).__name__} than method.backbone asks for: "
            f"{', '.join(other)}; set method.backbone as the weights have it, or name other weights"
        )


def _take(weights: Weights, backbone: Backbone, path: Path) -> None:
    own = backbone.state_dict()
    to_name = naming(type(backbone), "intravid")
    match = match_at(Place("intravid"), {key: to_name(key) for key in own}, own, weights.backbone.state_dict())
    refuse(match, path)
    backbone.load_state_dict(match.tensors)
    source = weights.provenance.get("source", path.name)
    digest = str(weights.provenance.get("source_sha256", ""))[:12]
    _LOG.info(
        "the backbone begins with %s (%s%s): %d of %d entries, 0 missing",
        path, source, f", sha256 {digest}..." if digest else "", len(match.tensors), len(own),
    )  # fmt: skip


def _warn_of_clips(clips: ClipInput | None, method: Method, path: Path) -> None:
    form = method.clip_format
    if clips and (tuple(clips.mean), tuple(clips.std)) != (tuple(form.mean), tuple(form.std)):
        _LOG.warning(
            "%s was trained on clips with mean %s and std %s, this run gives it %s and %s; leave method.mean and "
            "method.std out to take those of the weights",
            path, list(clips.mean), list(clips.std), list(form.mean), list(form.std),
        )  # fmt: skip
