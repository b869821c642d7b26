"""What a network costs, as a table: of a recipe, a run, an exported file, or of a backbone that is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from data_process.errors import InputError
from launch.config import load_run
from launch.weights import open_weights, read_settings
from models.backbone import Backbone
from models.cost import PartCost, backbone_cost
from models.method import DatasetFacts
from models.weights.architecture import build, find_kind
from models.weights.exported import is_exported

_FRAMES, _SIZE = 16, 112
_MIB = 2**20


@dataclass(frozen=True)
class ModelCost:
    """The parts of a backbone and their sum, for one clip.

    Attributes:
        name: class of the backbone.
        clip: channels, frames, height and width.
        parts: one after the other.
        whole: their sum.
    """

    name: str
    clip: tuple[int, int, int, int]
    parts: tuple[PartCost, ...]
    whole: PartCost

    def as_json(self) -> dict[str, Any]:
        """Plain values; multiply-adds as `macs`, bytes for float32."""
        return {
            "backbone": self.name,
            "clip": list(self.clip),
            "parts": [asdict(part) for part in self.parts],
            "all": asdict(self.whole),
        }


def model_cost(
    what: str, *, settings: Sequence[str] = (), overrides: Sequence[str] = (), frames: int | None, size: int | None
) -> ModelCost:
    """Count what a backbone costs; nothing is computed and no weights are drawn for a backbone that is named.

    Args:
        what: recipe, run folder, exported file, file name of a backbone (``r3d``), or class path.
        settings: of a backbone that is named, such as ``width=32``.
        overrides: of a recipe's settings, such as ``--method.backbone.width=32``.
        frames: of a clip; None for those of the recipe or the file, else 16.
        size: height and width, pixels; None for that of the recipe or the file, else 112.

    Raises:
        InputError: where there is no such network, or it does not take such clips.
    """
    backbone, own = _opened(what, settings, overrides)
    frames, side = frames or own[0], size or own[1]
    *parts, whole = backbone_cost(backbone, num_frames=frames, height=side, width=side)
    return ModelCost(type(backbone).__name__, (backbone.in_channels, frames, side, side), tuple(parts), whole)


def _opened(what: str, settings: Sequence[str], overrides: Sequence[str]) -> tuple[Backbone, tuple[int, int]]:
    """A backbone, and frames and size of the clips that it is used with."""
    path = Path(what)
    if path.suffix in (".yaml", ".yml") or path.is_dir():
        _refuse(settings, "--set", what, "a recipe is changed by its own settings, such as --method.backbone.width 32")
        loaded = load_run(path / "config.yaml" if path.is_dir() else path, overrides)
        method = loaded.build_method(DatasetFacts(1))
        return method.backbone, (method.clip_format.num_frames, method.clip_format.size)
    _refuse(overrides, "", what, "settings of a backbone follow --set, such as --set width=32")
    if is_exported(path):
        _refuse(settings, "--set", what, "a file of weights has its settings")
        weights = open_weights(path)
        return weights.backbone, (weights.clips.frames, weights.clips.size) if weights.clips else (_FRAMES, _SIZE)
    kind = find_kind(what)
    with torch.device("meta"):
        return build(kind, read_settings(kind, settings)), (_FRAMES, _SIZE)


def _refuse(words: Sequence[str], option: str, what: str, instead: str) -> None:
    if words:
        raise InputError(f"{' '.join((option, *words)).strip()} does not go with {what}: {instead}")


def print_cost(cost: ModelCost) -> None:
    """Print the table to standard output."""
    table = Table(title=f"{cost.name}, one clip of {_times(cost.clip)}")
    for place, head in enumerate(("part", "parameters", "GMAC", "gives", "kept\nMiB", "recomputed\nMiB")):
        table.add_column(head, justify="right" if place else "left", no_wrap=True)
    for part in (*cost.parts, cost.whole):
        if part is cost.whole:
            table.add_section()
        table.add_row(
            part.name,
            f"{part.parameters:,}",
            f"{part.macs / 1e9:,.3f}",
            _times(part.shape),
            f"{part.kept_bytes / _MIB:,.1f}",
            f"{part.recomputed_bytes / _MIB:,.1f}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"GMAC: multiply-adds of convolutions and matrix products in a forward pass, 1e9; {cost.name} takes "
        f"{2 * cost.whole.macs / 1e9:,.1f} GFLOP. Kept: float32 activations of a clip that wait for the backward pass; "
        "recomputed: the same with train.recompute, in all the most at any time.",
        highlight=False,
    )


def _times(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def write_cost(cost: ModelCost, path: Path) -> None:
    """Write the numbers as JSON.

    Raises:
        InputError: where the folder does not exist.
    """
    if not path.parent.is_dir():
        raise InputError(f"the folder of {path} does not exist; make it first, or see --json")
    path.write_text(json.dumps(cost.as_json(), indent=1) + "\n")
