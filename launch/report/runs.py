"""What a run folder tells without its data and weights: configuration, log, measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_process.errors import InputError
from engine.log import read_log
from launch.results import Results, read_results


@dataclass(frozen=True)
class RunFolder:
    """A run to be reported.

    Attributes:
        path: its folder.
        name: for people; no other run of the page has it.
        number: its place among them, from 0.
        settings: configuration as used, plain values; empty where the folder has none.
        text: the same as it stands in config.yaml.
        log: records of log.jsonl.
        results: NAME of eval-NAME.json to its content.
    """

    path: Path
    name: str
    number: int
    settings: Mapping[str, Any]
    text: str
    log: Sequence[Mapping[str, Any]]
    results: Mapping[str, Results]

    @property
    def method(self) -> str:
        """Class of the method; empty where unknown."""
        return _class_name(self.settings.get("method"))

    @property
    def backbone(self) -> str:
        """Class of the backbone; empty where unknown."""
        return _class_name(_at(self.settings, "method.init_args.backbone"))

    @property
    def pretrained(self) -> Mapping[str, Any]:
        """Settings of the run whose weights this one began with; empty where they are no run's, or that is gone."""
        weights = _at(self.settings, "finetune.weights") or ""
        for folder in (Path(weights), Path(weights).parent.parent):  # a run, or a checkpoint of one
            if weights and (folder / "config.yaml").is_file():
                return _settings(folder / "config.yaml")[0]
        return {}

    @property
    def roots(self) -> list[str]:
        """Where its videos lie; empty where unknown."""
        root = _at(self.settings, "data.root")
        return [root] if isinstance(root, str) else [str(one) for one in root or ()]

    @property
    def step(self) -> int:
        """Of the last record; 0 without any."""
        return int(self.log[-1]["step"]) if self.log else 0

    def scalars(self) -> dict[str, list[tuple[int, float]]]:
        """Everything that the log counts, by name (``losses.total``, ``lr``): (step, value); what is not finite, which
        the log holds as null, is left out.
        """
        found: dict[str, list[tuple[int, float]]] = {}
        for record in self.log:
            for name, value in _flat(record):
                if name not in ("step", "epoch"):
                    found.setdefault(name, []).append((int(record["step"]), value))
        return found

    def latest(self, measure: str) -> Results | None:
        """The table with this measure (``knn``, ``linear``, ``retrieve@1``) that judges the latest step, or None."""
        having = [one for one in self.results.values() if measure in one.judged]
        return max(having, key=lambda one: (one.step, bool(one.one_frame), bool(one.random)), default=None)


def read_runs(paths: Sequence[Path]) -> list[RunFolder]:
    """The runs of these folders.

    Raises:
        InputError: where a folder is no run, or one is named twice.
    """
    folders = [path.resolve() for path in paths]
    twice = next((path for path in paths if folders.count(path.resolve()) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is named twice; name each run once")
    return [_read(path, name, place) for place, (path, name) in enumerate(zip(paths, _names(folders), strict=True))]


def _read(path: Path, name: str, place: int) -> RunFolder:
    log, config = path / "log.jsonl", path / "config.yaml"
    if not path.is_dir() or not (log.is_file() or config.is_file()):
        raise InputError(
            f"{path} is no run folder: it has neither log.jsonl nor config.yaml; give a run_dir of `intravid pretrain`"
        )
    settings, text = _settings(config) if config.is_file() else ({}, "")
    records = read_log(log) if log.is_file() else []
    return RunFolder(path, name, place, settings, text, records, read_results(path))


def _settings(config: Path) -> tuple[Mapping[str, Any], str]:
    """The configuration of a run as plain values, and as it stands in its file."""
    text = config.read_text(encoding="utf-8")
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{config} is not YAML: {error}") from None
    if not isinstance(settings, Mapping):
        raise InputError(f"{config} holds no settings but {type(settings).__name__}; give the run_dir of a run")
    return settings, text


def _names(folders: Sequence[Path]) -> list[str]:
    """The ends of paths that tell them apart, of two parts at least: `runs/iic` says more than `iic`."""
    for parts in range(2, max(len(path.parts) for path in folders) + 1):
        names = ["/".join(path.parts[-parts:]) for path in folders]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in folders]


def _flat(record: Mapping[str, Any], before: str = "") -> list[tuple[str, float]]:
    found = []
    for name, value in record.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{before}{name}", float(value)))
    return found


def _at(settings: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        settings = settings.get(part, {}) if isinstance(settings, Mapping) else {}
    return settings


def _class_name(described: object) -> str:
    path = described.get("class_path", "") if isinstance(described, Mapping) else ""
    return str(path).rpartition(".")[2]
