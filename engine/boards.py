"""Where scalars go beside log.jsonl: TensorBoard where it is installed, Weights & Biases where a project is named."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import yaml

from data_process.errors import InputError
from engine.atomic import replacing

_ID_FILE = "wandb-id"
"""In the run folder, so that a resumed run goes on in the same curves."""


class Board(Protocol):
    """A place for curves."""

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""

    def close(self) -> None:
        """Write what is left."""


def check_wandb(project: str) -> None:
    """Refuse a project where the package is missing; by every rank, before rank 0 opens it.

    Raises:
        InputError: saying what to install.
    """
    if project and find_spec("wandb") is None:
        raise InputError(
            f"train.wandb is {project!r}, but Weights & Biases is not installed: "
            'pip install "intravid[wandb]", or leave train.wandb empty'
        )


def open_boards(run_dir: Path, *, resumed_at: int, tensorboard: bool, wandb_project: str = "") -> list[Board]:
    """The boards of a run.

    Args:
        run_dir: folder of the run, which their files go to.
        resumed_at: finished steps of the checkpoint that the run goes on from; later points come again.
        tensorboard: whether it is wanted, if it is there.
        wandb_project: of Weights & Biases; empty for none. WANDB_MODE=offline keeps it on this machine.
    """
    boards: list[Board] = []
    if tensorboard and find_spec("tensorboard") is not None:
        boards.append(_TensorBoard(run_dir / "tensorboard", resumed_at))
    if wandb_project:
        boards.append(_Wandb(run_dir, wandb_project))
    return boards


class _TensorBoard:
    def __init__(self, folder: Path, resumed_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=resumed_at + 1 if resumed_at else None)

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """Our own step is the axis: the service's own counter could not go back when a run is resumed before its end."""

    def __init__(self, run_dir: Path, project: str) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._run: Any = wandb.init(
            project=project,
            id=_run_id(run_dir),
            name=run_dir.name,
            resume="allow",
            dir=str(run_dir),
            config=_settings(run_dir),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        self._run.log({**scalars, "step": step})

    def close(self) -> None:
        self._run.finish()


def _run_id(run_dir: Path) -> str:
    path = run_dir / _ID_FILE
    with suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    made = uuid.uuid4().hex[:12]
    with replacing(path) as file:
        file.write(made.encode("ascii"))
    return made


def _settings(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "config.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
