"""The recipes of configs/ at a size at which a step takes milliseconds, by rules that know no recipe."""

import math
from pathlib import Path

import pytest
import yaml

from launch.config import load_run

CONFIGS = Path(__file__).parents[2] / "configs"
PRETRAIN = sorted((CONFIGS / "pretrain").glob("*.yaml"))
SMOKE = sorted((CONFIGS / "smoke").glob("*.yaml"))
FINETUNE = sorted((CONFIGS / "eval").glob("finetune_*.yaml"))
DEMO = sorted((CONFIGS / "demo").glob("*.yaml"))

OTHER_KINDS = ("finetune_iic_c3d_ucf101", "finetune_cstp_i3d_ucf101", "finetune_cstp_r21d_ucf101_frozen")
"""Fine-tunings that differ from the papers' first in more than data, lengths and rates."""

FIRST = (
    "finetune_iic_r3d_ucf101",
    "finetune_vtdl_i3d_hmdb51",
    "finetune_dualvar_r21d_ucf101",
    "finetune_cstp_r21d_ucf101",
)

LARGEST = {"width": 4, "num_frames": 8, "size": 32, "window": 1}
"""Of settings by name; all other whole numbers of a method end at `ANY`: rows of banks and queues, widths of heads."""

ANY = 64


def parameters(recipes, *, first=True):
    """Recipes for a test; fine-tunings that are like one of `OTHER_KINDS` (or of `FIRST`, if those count) are slow."""
    kept = (*OTHER_KINDS, *(FIRST if first else ()))
    alike = [one for one in FINETUNE if one.stem not in kept]
    return [pytest.param(one, marks=[pytest.mark.slow] if one in alike else []) for one in recipes]


def reduced(recipe, *, run, shards, flow="", **train):
    """A copy of a recipe in the folder `run`, with small clips, networks and memories: its path.

    Only sizes change: which class, which losses, which augmentation and which optimizer stay as they are.
    """
    plain = load_run(recipe).plain
    plain["method"], plain["eval"] = small(plain["method"]), small(plain["eval"])
    plain["run_dir"], plain["data"]["root"] = str(run), str(shards)
    if plain["data"]["flow"]:
        plain["data"]["flow"] = str(flow)
    plain["train"] |= {"epochs": None, "steps": 2, "global_batch": 4, "log_every": 1, "tensorboard": False} | train
    plain["schedule"]["warmup"] = min(plain["schedule"]["warmup"], 1)
    plain["pipeline"]["threads"], plain["dist"]["device"] = 1, "cpu"
    run.mkdir(parents=True, exist_ok=True)
    path = run / "reduced.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path


def small(settings, scale=1.0):
    """Settings of a method with every size reduced; what frames are resized to keeps its proportion to `size`."""
    if "size" in settings:
        scale = min(1.0, LARGEST["size"] / settings["size"])
    result = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            result[name] = small(value, scale)
        elif name in ("resize", "short_side") and value is not None:
            pair = isinstance(value, list)
            result[name] = [math.ceil(side * scale) for side in value] if pair else math.ceil(value * scale)
        elif type(value) is int:
            result[name] = min(value, LARGEST.get(name, ANY))
        else:
            result[name] = value
    return result
