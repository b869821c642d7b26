"""A copy of the package at the moment of a submission: what a job runs, now and after each requeue."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data_process.errors import InputError
from engine.atomic import replacing
from launch.env import ROOMS

_HERE = Path(__file__).resolve().parents[1]
_PACKAGES = (*ROOMS, "benchmarks")
_LEFT_OUT = {"__pycache__"}
START = "start.py"
"""Runs a module of the snapshot; see `launch.start`."""


def snapshot_path(folder: Path) -> Path:
    """Where in `folder` the package as it is now belongs: the name tells its content."""
    digest = hashlib.sha256()
    for path in _files():
        digest.update(f"{path.relative_to(_HERE)}\0".encode())
        digest.update(path.read_bytes())
    return folder / f"code-{digest.hexdigest()[:12]}"


def take_snapshot(folder: Path) -> Path:
    """Copy the package into `folder`, unless the same content is there already: the root of the copy.

    Raises:
        InputError: where the folder cannot be written.
    """
    root = snapshot_path(folder).resolve()
    if root.is_dir():
        return root
    aside = root.with_name(f"{root.name}.tmp.{os.getpid()}")
    try:
        for path in _files():
            target = aside / path.relative_to(_HERE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        shutil.copyfile(_HERE / "launch" / START, aside / START)
        os.rename(aside, root)
    except OSError as error:
        if not root.is_dir():  # or another submission was faster: its copy is the same
            raise InputError(
                f"cannot copy the code of the job to {root} ({error.strerror}); give a run folder that can be written, "
                "or make room"
            ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return root


def keep_recipe(recipe: Path, folder: Path) -> Path:
    """A copy of a recipe in `folder`, which a requeued job reads whatever becomes of the original."""
    content = recipe.read_bytes()
    kept = (folder / f"{recipe.stem}-{hashlib.sha256(content).hexdigest()[:12]}{recipe.suffix}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not kept.is_file():
        with replacing(kept) as file:
            file.write(content)
    return kept


def _files() -> Iterator[Path]:
    for package in _PACKAGES:
        for path in sorted((_HERE / package).rglob("*")):
            if path.is_file() and not _LEFT_OUT & set(path.parts):
                yield path
