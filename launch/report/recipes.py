"""The published recipe that a run is nearest to, and the settings in which it differs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from launch.config import load_run
from launch.report.published import PUBLISHED, Published

_SECTIONS = ("method", "data", "train", "optim", "schedule", "precision", "eval")
_BESIDE_THE_POINT = (
    "data.reader", "data.check_crc", "data.stage", "train.log_every", "train.save_every", "train.save_in_background",
    "train.keep", "train.keep_every", "train.stop_at_step", "train.channels_last", "train.recompute", "train.compile",
    "train.static_graph", "train.tensorboard", "train.wandb", "train.hang_timeout_s",
    "train.first_step_timeout_s", "train.seed", "eval.batch_size",
)  # fmt: skip
"""Settings that change speed or comfort and not what is learned."""


def nearest_published(settings: Mapping[str, Any]) -> Published | None:
    """Figures of the recipe that has the run's method and most settings in common with it; None for methods without.

    Args:
        settings: of the run, plain values.
    """
    run = flat(settings)
    shares = {}
    for one in PUBLISHED:
        recipe = flat(_recipe(one.recipe))
        if recipe["method.class_path"] == run.get("method.class_path"):
            same = sum(key in run and run[key] == value for key, value in recipe.items())
            # The network, then the framework count more than other settings: they decide what a number can be compared
            # with. Recipes leave a framework out where it is the method's own.
            network, framework = (f"method.init_args.{name}" for name in ("backbone.class_path", "framework"))
            shares[one] = (
                run.get(network) == recipe.get(network),
                framework not in recipe or run.get(framework) == recipe[framework],
                same / len(recipe),
            )
    return max(shares, key=lambda one: shares[one], default=None)


def differences(settings: Mapping[str, Any], recipe: str) -> list[tuple[str, str, str]]:
    """(setting, of the run, of the recipe) for all that is not equal and matters for the result."""
    run, other = flat(settings), _as_used(recipe)
    found = []
    for key in dict.fromkeys([*run, *other]):
        if key.split(".")[0] not in _SECTIONS or key in _BESIDE_THE_POINT:
            continue
        mine, theirs = run.get(key), other.get(key)
        if mine != theirs:
            found.append((key.replace(".init_args", ""), _told(mine), _told(theirs)))
    return found


def _told(value: object) -> str:
    """A value as the recipe would write it; what is not set at all has none."""
    return "-" if value is None or value == "" else yaml.safe_dump(value, default_flow_style=True).split("\n")[0]


def flat(settings: object, before: str = "") -> dict[str, Any]:
    """Leaves of nested settings by their full key."""
    if not isinstance(settings, Mapping):
        return {before: settings}
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{before}.{name}" if before else str(name))
    return found


def _path(recipe: str) -> Path:
    return Path(str(files("configs") / "pretrain" / f"{recipe}.yaml"))


@cache
def _recipe(recipe: str) -> dict[str, Any]:
    return yaml.safe_load(_path(recipe).read_text(encoding="utf-8"))


@cache
def _as_used(recipe: str) -> dict[str, Any]:
    """With all that the recipe leaves at its default."""
    return flat(load_run(_path(recipe)).plain)
