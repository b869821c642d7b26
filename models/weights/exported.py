"""Exported weights: one safetensors file that carries its card, written from a backbone and read back as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_process.errors import InputError
from models.backbone import Backbone
from models.weights.architecture import OWN_LAYOUT, build, find_kind, layout_settings, naming
from models.weights.card import Card, ClipInput, card_of, read_card_text
from models.weights.match import Place, match_at
from models.weights.report import refuse
from models.weights.tensor_file import read_tensor_file, read_text, tensor_file_bytes, tensors_sha256


@dataclass(frozen=True)
class Weights:
    """A backbone with its weights and what is known about them.

    Attributes:
        backbone: on the CPU.
        settings: that it was built with, all of them, plain values.
        clips: what it was trained on; None where that is not known.
        provenance: where the weights come from, plain values.
    """

    backbone: Backbone
    settings: Mapping[str, Any]
    clips: ClipInput | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def exported_bytes(weights: Weights, layout: str = OWN_LAYOUT) -> tuple[bytes, Card]:
    """The file and its card; the same bytes for the same weights.

    Raises:
        InputError: for a layout that the backbone does not have, or whose networks have other settings.
    """
    to_name = naming(type(weights.backbone), layout)
    _refuse_other_settings(weights, layout)
    tensors: dict[str, Tensor] = {to_name(key): one for key, one in weights.backbone.state_dict().items()}
    card = card_of(
        weights.backbone,
        weights.settings,
        layout=layout,
        weights_sha256=tensors_sha256(tensors),
        clips=weights.clips,
        provenance=weights.provenance,
        version=_version(),
    )
    return tensor_file_bytes(tensors, card.text()), card


def is_exported(path: Path) -> bool:
    """Whether a file is safetensors with a card of ours."""
    return path.is_file() and read_text(path) is not None


def load_weights(path: Path | str, *, trust: bool = False) -> tuple[Weights, Card]:
    """Read an exported file, whatever layout its names have.

    Args:
        path: of the safetensors file.
        trust: build a class outside of intravid that the card names, which runs the class's module.

    Raises:
        InputError: if it is missing, damaged, has no card, or does not fit its card.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected weights that intravid export or import wrote")
    tensors, text = read_tensor_file(path)
    if text is None:
        raise InputError(f"{path} has no card of intravid; weights of other programs come in by intravid import")
    card = read_card_text(text, path)
    if tensors_sha256(tensors) != card.weights_sha256:
        raise InputError(f"{path} is damaged: its numbers are not those that its card was written for; export anew")
    backbone = build(find_kind(card.class_path, trust=trust), card.settings)
    own = backbone.state_dict()
    to_name = naming(type(backbone), card.layout)
    match = match_at(Place(card.layout), {key: to_name(key) for key in own}, own, tensors)
    refuse(match, path)
    backbone.load_state_dict(match.tensors)
    return Weights(backbone, card.settings, card.clips, card.provenance), card


def load_backbone(path: Path | str, *, trust: bool = False, device: torch.device | str = "cpu") -> Backbone:
    """The backbone of an exported file, in train mode as it is built; see `load_weights`.

    >>> backbone = load_backbone("r3d.safetensors").eval()  # doctest: +SKIP
    """
    return load_weights(path, trust=trust)[0].backbone.to(device)


def _refuse_other_settings(weights: Weights, layout: str) -> None:
    there, here = layout_settings(type(weights.backbone), layout), weights.settings
    if other := [f"{name} {value}, not {here[name]}" for name, value in there.items() if here[name] != value]:
        raise InputError(
            f"networks of layout {layout} have {', '.join(other)} as this one; under those names it would give other "
            "features there. Export it in the layout intravid"
        )


def _version() -> str:
    try:
        return version("intravid")
    except PackageNotFoundError:
        return "not installed"  # a bare checkout
