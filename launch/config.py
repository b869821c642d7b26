"""The whole run as one configuration: nests the parts' own settings, reads recipes, refuses what it does not know."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from data_process.data_config import DataConfig
from data_process.errors import InputError
from engine.features import EvalConfig
from engine.optim import OptimConfig
from engine.precision import PrecisionConfig
from engine.schedule import ScheduleConfig
from engine.trainer import TrainConfig
from engine.world import DistConfig
from launch.cluster import ClusterConfig
from launch.downstream_config import FinetuneConfig, OnlineConfig, ValidationConfig
from launch.settings import merged, refuse_unknown
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
        eval: clips and measures of retrieve, knn, linear, test and extract.
        finetune: what the backbone begins with, of `intravid finetune`.
        validate: accuracy of a classifier on other videos, measured while it trains.
        online: kNN on a small labelled set, measured while a method is pretrained.
        launch: what `intravid submit` asks of SLURM.
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
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    validate: ValidationConfig = field(default_factory=ValidationConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)
    launch: ClusterConfig = field(default_factory=ClusterConfig)


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
    content, made = read_recipe(recipe), parser()
    try:
        refuse_unknown(RunConfig, merged(content, overrides))
        with redirect_stderr(StringIO()):
            settings = made.parse_args(["--config", _renamed(recipe, content), *overrides])
            instantiated = _instantiate(made, settings)
    except (ArgumentError, ValueError, TypeError) as error:
        raise InputError(f"{recipe}: {explained(str(error))}") from None
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


def read_recipe(recipe: Path) -> dict[str, Any]:
    """What a recipe sets, as nested plain values.

    Raises:
        InputError: where there is none, or it is not YAML.
    """
    if not recipe.is_file():
        raise InputError(f"there is no recipe {recipe}; expected a YAML file such as configs/smoke/iic.yaml")
    try:
        content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{recipe} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{recipe} holds no settings; expected `method:` and others, as in configs/smoke/iic.yaml")
    if "cluster" in content and "launch" not in content:
        content["launch"] = content.pop("cluster")  # its name in the config.yaml of older runs
    return content


def _renamed(recipe: Path, content: dict[str, Any]) -> str:
    """The recipe for the parser: its path, or the text of what `read_recipe` has mended."""
    mended = "cluster:" in recipe.read_text(encoding="utf-8") and "cluster" not in content
    return yaml.safe_dump(content, sort_keys=False) if mended else str(recipe)


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


def explained(message: str) -> str:
    """A message of jsonargparse as one sentence with the setting's full name; as it is where it has another form."""
    text = " ".join(message.split())
    keys = re.findall(r'Parser key "([\w.]+)"', text)
    union = re.search(r"Subtypes: \[(.+?)\] Errors: .*?Given value: (.+?)(?:\. Got value: |$)", text)
    single = re.findall(r"Expected an? (.+?)\. Got value: (.+?)(?:\. Got value: |$)", text)
    if not keys or not (union or single):
        return text
    expected, value = union.groups() if union else single[-1]
    return f"{'.'.join(keys)}: expected {_kinds(expected)}, got {value}"


def _kinds(text: str) -> str:
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    text = re.sub(r"(?:typing\.)?Literal\[(.+)\]", r"one of \1", text)
    return text.replace(", NoneType", " or null")
