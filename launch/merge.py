"""What `--merge` names: another modality of the judged network, or another run, seen beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from data_process.data_config import DataConfig
from data_process.errors import InputError
from engine.features import EvalConfig, Modality
from launch.evaluate import SecondLook, Subject, open_subject, open_videos
from launch.settings import of_section


@dataclass(frozen=True)
class Merged:
    """A second network, or the first one once more.

    Attributes:
        name: for tables.
        subject: its network.
        config: its settings of evaluation.
    """

    name: str
    subject: Subject
    config: EvalConfig

    def look(self, data: DataConfig, config: EvalConfig) -> SecondLook:
        """At the gallery and query splits that the first look's settings name."""
        gallery, query = (open_videos(data, self.config, split) for split in (config.gallery, config.query))
        return SecondLook(self.name, self.subject.backbone, self.config, (gallery, query))


def open_merged(
    name: str, subject: Subject, config: EvalConfig, overrides: Sequence[str] = (), *, averaged: bool = False
) -> Merged:
    """The second look that is asked for.

    Args:
        name: a modality, for the same network (IIC's joint retrieval); or a run folder, checkpoint or recipe, whose own
            settings of evaluation count.
        subject: the first network.
        config: the first look's settings of evaluation.
        overrides: of the first's settings; those of ``eval`` hold for another run too, but for the modality.
        averaged: the moving average of the other run's weights.

    Raises:
        InputError: for a name that is neither, or the modality that is seen already.
    """
    modalities = get_args(Modality)
    if name in modalities:
        if name == config.modality:
            others = ", ".join(one for one in modalities if one != name)
            raise InputError(f"--merge {name}: eval.modality is {name} already; name another one ({others}), or a run")
        return Merged(name, subject, replace(config, modality=name))
    path = Path(name)
    if not path.exists():
        raise InputError(
            f"--merge {name} is neither a modality ({', '.join(modalities)}) nor a run folder, checkpoint or recipe"
        )
    own = of_section(overrides, "eval", without=("modality",))
    other = open_subject(path, own, averaged=averaged and path.suffix not in (".yaml", ".yml"))
    return Merged(f"{path.name or path} ({other.origin})", other, other.config)
