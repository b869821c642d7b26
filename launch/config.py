"""The whole run as one configuration: nests the parts' own settings, reads recipes, refuses what it does not know."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from data_process.errors import InputError
from data_process.shards import DataConfig
from engine.features import EvalConfig
from engine.optim import OptimConfig
from engine.precision import PrecisionConfig
from engine.schedule import ScheduleConfig
from engine.trainer import TrainConfig
from engine.world import DistConfig
from launch.cluster import ClusterConfig
from models.method import DatasetFacts, Method
from pipelines.loader import PipelineConfig


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run.

    Attributes:
        method: class path and settings of the self-supervised method; its backbone is one of them.
        run_dir: folder of the run: configuration, log, checkpoints.
        data: which videos.
        pipeline: how clips become tensors.
        train: steps, batch, seed, and how often to log and save.
        optim: the optimizer.
        schedule: its learning rate.
        precision: number formats.
        dist: process group.
        eval: clips and measures of retrieve, knn and linear.
        cluster: what `intravid submit` asks of SLURM.
    """

    method: Callable[[DatasetFacts], Method]
    run_dir: str = "runs/default"
    data: DataConfig = field(default_factory=DataConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    dist: DistConfig = field(default_factory=DistConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)


@dataclass(frozen=True)
class LoadedRun:
    """A configuration and where it came from.

    Attributes:
        config: the settings.
        plain: the same as plain values, for config.yaml and checkpoints.
        text: config.yaml: the recipe's head comment and all settings as used.
    """

    config: RunConfig
    plain: dict[str, Any]
    text: str

    def build_method(self, facts: DatasetFacts) -> Method:
        """The method for a dataset, with weights drawn from the run's seed alone.

        Raises:
            InputError: for settings that contradict each other.
        """
        return build_method(self.plain, facts, seed=self.config.train.seed)


def parser() -> ArgumentParser:
    """Parser of recipes and overrides."""
    made = ArgumentParser(prog="intravid", exit_on_error=False)
    made.add_argument("--config", action="config", help="a recipe (YAML)")
    made.add_class_arguments(RunConfig, None)
    return made


def load_run(recipe: Path, overrides: Sequence[str] = ()) -> LoadedRun:
    """Read a recipe, then apply overrides such as ``--optim.lr 0.05``.

    Raises:
        InputError: for a missing recipe, a key that is not known (with the nearest that is), or a value of another
            type.
    """
    if not recipe.is_file():
        raise InputError(f"there is no recipe {recipe}; expected a YAML file such as configs/smoke/iic.yaml")
    made = parser()
    try:
        with redirect_stderr(StringIO()):
            settings = made.parse_args(["--config", str(recipe), *overrides])
            instantiated = _instantiate(made, settings)
    except (ArgumentError, ValueError, TypeError) as error:
        raise InputError(f"{recipe}: {_explain(str(error), made, recipe)}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{recipe} is not YAML: {error}") from None
    dumped = made.dump(settings, skip_validation=True, skip_unset=False)
    plain = yaml.safe_load(dumped)
    config = RunConfig(**{name: getattr(instantiated, name) for name in RunConfig.__dataclass_fields__})
    return LoadedRun(config, plain, _head_comment(recipe) + yaml.safe_dump(plain, sort_keys=False))


def build_method(plain: dict[str, Any], facts: DatasetFacts, *, seed: int) -> Method:
    """The method that plain settings describe; its first weights depend on the seed alone.

    Raises:
        InputError: for settings that contradict each other.
    """
    made = parser()
    with torch.random.fork_rng(devices=[]):
        # Layers draw their first weights from torch's own generator; the fork puts it back as it was.
        torch.manual_seed(seed)
        try:
            return made.instantiate(made.parse_object({"method": plain["method"]})).method(facts)
        except (ValueError, TypeError, ArgumentError) as error:
            raise InputError(f"method: {' '.join(str(error).split())}") from None


def _instantiate(made: ArgumentParser, settings: Namespace) -> Namespace:
    with torch.random.fork_rng(devices=[]):
        return made.instantiate(settings)


def _head_comment(recipe: Path) -> str:
    lines = []
    for line in recipe.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line + "\n")
    return "".join(lines)


def _explain(message: str, made: ArgumentParser, recipe: Path) -> str:
    """One paragraph: the parser's message, and the nearest key where one is unknown."""
    text = " ".join(re.sub(r"\s+", " ", message).split())
    unknown = (
        re.search(r"unrecognized arguments: --([\w.]+)", text)
        or re.search(r"[Kk]ey [\"']([\w.]+)[\"'] is not expected", text)
        or re.search(r"[Oo]ption [\"']([\w.]+)[\"'] is not accepted", text)
        or re.search(r"does not accept (?:nested key|option) [\"']([\w.]+)[\"']", text)
        or re.search(r"[Nn]o action for key [\"']([\w.]+)[\"']", text)
    )
    if unknown is None:
        return text
    # The parser tells a setting of the method by its last part alone.
    prefix = "method." if 'Parser key "method"' in text and not unknown[1].startswith("method.") else ""
    near = get_close_matches(prefix + unknown[1], known_keys(made, recipe), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{prefix}{unknown[1]} is not a setting{hint} ({text})"


def known_keys(made: ArgumentParser, recipe: Path) -> list[str]:
    """Full names of all settings, and of those that the recipe gives its method."""
    names = [action.dest for action in made._actions if action.dest not in ("help", "config", "print_config")]
    try:
        method = (yaml.safe_load(recipe.read_text(encoding="utf-8")) or {}).get("method", {})
        kind = _import(method["class_path"])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ImportError, ValueError):
        return names  # the recipe itself is at fault, and its own error is reported
    import inspect

    settings = [name for name in inspect.signature(kind).parameters if name != "facts"]
    return (
        names + [f"method.{name}" for name in settings] + [f"method.init_args.{name}" for name in settings] + settings
    )


def _import(path: str) -> Any:
    from importlib import import_module

    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
