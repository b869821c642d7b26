"""The state of a run as one file: written whole or not at all, checked when read, refused where it does not fit."""

from __future__ import annotations

import json
import logging
import pickle
import zipfile
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_process.errors import InputError
from engine.atomic import replacing, sweep_leftovers
from engine.world import World
from pipelines.plan import PLAN_VERSION

FORMAT_VERSION = 1
"""Raised whenever the content of the file changes its meaning."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFacts:
    """What decides the samples of every step, and the settings it came from.

    Attributes:
        seed: of order and plans.
        global_batch: samples of all ranks in one step.
        shard_digest: of the training set's index; names the samples and their order.
        config: all settings as used, plain values only.
        plan_version: of the code that draws plans.
    """

    seed: int
    global_batch: int
    shard_digest: str
    config: Mapping[str, Any] = field(default_factory=dict)
    plan_version: int = PLAN_VERSION


@dataclass(frozen=True)
class RunState:
    """Everything that a run needs to go on; no loader and no generator has state.

    Attributes:
        facts: what must not have changed.
        step: finished steps.
        world_size: ranks that made them; another number may go on.
        method: name to tensor, parameters and buffers (banks and queues among them), without wrappers' prefixes.
        optimizer: from `engine.optim.optimizer_state`.
        scaler: from `engine.precision.Precision.state`.
        ema: moving averages of the trained weights by their names in `method`; empty where none are kept.
        best: from `engine.best.Best.state`, of checkpoints up to this one.
        plateau: from `engine.plateau.Plateau.state`; empty for another schedule.
        num_skipped: steps that were left out because their loss or gradient was not finite.
        owes: whether what was due to be measured after this step is yet to be, because a stop had to be quick.
        gathered: what is yet to be added to `method`, made for this state and held by nobody else; a file has none.
    """

    facts: RunFacts
    step: int
    world_size: int
    method: Mapping[str, Tensor]
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    scaler: Mapping[str, Any] = field(default_factory=dict)
    ema: Mapping[str, Tensor] = field(default_factory=dict)
    best: Mapping[str, Any] = field(default_factory=dict)
    plateau: Mapping[str, Any] = field(default_factory=dict)
    num_skipped: int = 0
    owes: bool = False
    gathered: Mapping[str, Tensor] = field(default_factory=dict)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Name of the checkpoint after `step` steps."""
    return folder / f"step-{step:09d}.pt"


def save_checkpoint(folder: Path, state: RunState, *, keep: int = 3, keep_every: int = 0) -> Path:
    """Write a state, point `latest` (and `best`) to it, then delete older files; called by rank 0 only.

    The best file stays, however old it is.

    Args:
        folder: of the checkpoints, made if needed.
        state: what to write.
        keep: newest files that stay.
        keep_every: files of steps that this divides stay too; 0 for none.

    Raises:
        RunError: if it cannot be written; older checkpoints are untouched then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = checkpoint_path(folder, state.step)
    write_state(path, state)
    best = checkpoint_path(folder, state.best["step"]) if state.best else None
    if best is not None and best.is_file():
        _point(folder / "best", best)
    _point(folder / "latest", path)
    for old in saved_in(folder)[keep:]:
        if old not in (path, best) and not (keep_every and checkpoint_step(old) % keep_every == 0):
            old.unlink(missing_ok=True)
    return path


def _point(pointer: Path, target: Path) -> None:
    if _pointed(pointer) != target:
        with replacing(pointer) as file:
            file.write(f"{target.name}\n".encode())


def _pointed(pointer: Path) -> Path | None:
    """The checkpoint that `latest` or `best` names, whether it is there or not; None where there is no such file."""
    return pointer.parent / pointer.read_text().strip() if pointer.is_file() else None


def write_state(path: Path, state: RunState) -> None:
    """Write one state, atomically."""
    facts = state.facts
    content = {
        "format": FORMAT_VERSION,
        "plan_version": facts.plan_version,
        "seed": facts.seed,
        "global_batch": facts.global_batch,
        "shard_digest": facts.shard_digest,
        "config": json.loads(json.dumps(facts.config, default=str)),
        "step": state.step,
        "world_size": state.world_size,
        "method": {**state.method, **state.gathered},
        "optimizer": dict(state.optimizer),
        "scaler": dict(state.scaler),
        "ema": dict(state.ema),
        "best": dict(state.best),
        "plateau": dict(state.plateau),
        "num_skipped": state.num_skipped,
        "owes": state.owes,
    }
    with replacing(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's zip writer wraps the disk's error
            raise OSError(f"torch could not finish the file ({str(error).splitlines()[0]})") from error


def read_checkpoint(path: Path) -> RunState:
    """The state in a file, tensors on the CPU.

    Those of the method are mapped, not read: they take no memory of their own until they are copied out, so that the
    ranks of a machine do not each hold whole banks in order to take their part of them.

    Raises:
        InputError: if the file is missing, damaged, foreign, or of another format version.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}; give the path of a step-*.pt file or of a run folder")
    if damage := _damage(path):
        raise InputError(f"{path} is not a complete checkpoint of intravid: {damage}; give another checkpoint")
    try:
        mapped = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        # Optimizers keep the very tensors that they are given, which must not depend on a file that is deleted later.
        content = {name: value if name == "method" else deepcopy(value) for name, value in mapped.items()}
        version = content["format"]
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path} has checkpoint format {version}, this intravid reads {FORMAT_VERSION}; use the intravid "
                "that wrote it, or train anew"
            )
        facts = RunFacts(**{entry.name: content.pop(entry.name) for entry in fields(RunFacts)})
        del content["format"]
        return RunState(facts=facts, **content)
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} was not written by intravid pretrain ({str(error).splitlines()[0]}); weights of other programs "
            "come in by intravid import"
        ) from error


def is_checkpoint(content: object) -> bool:
    """Whether the content of a file of torch.save looks like a state of a run."""
    return isinstance(content, Mapping) and {"format", "plan_version", "method"} <= content.keys()


def latest_checkpoint(run: Path) -> Path:
    """The checkpoint that a path means: the file itself, what ``best`` or ``latest`` of a checkpoint folder names, or
    the newest of a run or checkpoint folder.

    Raises:
        InputError: if there is none.
    """
    if run.name in ("best", "latest") and (target := _pointed(run)) and target.is_file():
        return target
    if run.is_file():
        return run
    for folder in (run, run / "checkpoints"):
        if (target := _pointed(folder / "latest")) and target.is_file():
            return target
        if found := saved_in(folder):
            return found[0]
    raise InputError(f"there is no checkpoint in {run}; give a step-*.pt file or the folder of a run that has saved")


def resume_state(folder: Path, world: World) -> RunState | None:
    """The newest state that loads, the same on every rank; None where no checkpoint was ever written.

    Rank 0 looks and clears up, the others read the file that it names, so that no two ranks fall back differently. A
    damaged file is renamed ``*.damaged``, so that it neither counts as kept nor is tried again.

    Raises:
        InputError: if there are checkpoints and none of them loads.
    """
    state, answer = None, None
    if world.is_main:
        try:
            state = _newest_that_loads(folder)
            answer = state.step if state else None
        except InputError as error:
            answer = str(error)
    answer = world.gather(answer)[0]
    if isinstance(answer, str):
        raise InputError(answer)
    if answer is None:
        return None
    return state or read_checkpoint(checkpoint_path(folder, answer))


def refuse_changed(then: RunFacts, now: RunFacts, *, source: Path) -> None:
    """Refuse to go on with other samples than the checkpoint was made with.

    Raises:
        InputError: naming each setting, both values and what mends it.
    """
    settings = {
        "train.seed": (then.seed, now.seed),
        "train.global_batch": (then.global_batch, now.global_batch),
        "the shard set (data.root), by its digest": (then.shard_digest, now.shard_digest),
        "the plan version of the program": (then.plan_version, now.plan_version),
    }
    changed = [f"{name} was {old}, is now {new}" for name, (old, new) in settings.items() if old != new]
    if changed:
        raise InputError(
            f"the run in {source} cannot go on, because its steps would see other clips than before: "
            f"{'; '.join(changed)}. Set it back (a plan version: with the intravid that began the run), or start a "
            "new run in another folder"
        )


def backbone_weights(state: RunState, *, averaged: bool = False) -> dict[str, Tensor]:
    """The backbone's part of a method's state, without the leading ``backbone.``.

    Args:
        state: of a run.
        averaged: take the moving averages (`train.ema`) where there are such of a weight.

    Raises:
        InputError: where averages are asked for and the run has kept none, or the state holds no backbone.
    """
    prefix = "backbone."
    weights = method_weights(state, averaged=averaged)
    found = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
    if not found:
        raise InputError(
            f"the checkpoint of step {state.step} holds no backbone: none of its {len(weights)} entries begins with "
            f"{prefix!r}; give the checkpoint of a run of `intravid pretrain`"
        )
    return found


def method_weights(state: RunState, *, averaged: bool = False) -> dict[str, Tensor]:
    """A method's whole state, with the moving averages in place of the weights where asked; see `backbone_weights`."""
    if averaged and not state.ema:
        raise InputError(
            f"the checkpoint of step {state.step} holds no moving average of the weights; train with train.ema 0.999, "
            "or leave --weights ema out"
        )
    return {**state.method, **state.ema} if averaged else dict(state.method)


def _newest_that_loads(folder: Path) -> RunState | None:
    if not folder.is_dir():
        return None
    sweep_leftovers(folder)
    found = saved_in(folder)
    for path in found:
        if damage := _damage(path):
            aside = path.with_name(f"{path.name}.damaged")
            _LOG.warning("%s is damaged (%s); it is now %s, and the one before is taken", path, damage, aside.name)
            path.replace(aside)
            continue
        return read_checkpoint(path)
    if found:
        raise InputError(
            f"none of the {len(found)} checkpoints in {folder} is complete; remove the folder to start from the "
            "beginning, or name another run folder"
        )
    return None


def _damage(path: Path) -> str | None:
    # torch.load checks no sums: a flipped bit in a weight would load in silence.
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            return f"the checksum of its part {broken} is wrong" if broken else None
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        return str(error) or type(error).__name__


def saved_in(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    named = [path for path in folder.glob("step-*.pt") if path.stem.removeprefix("step-").isdecimal()]
    return sorted(named, key=checkpoint_step, reverse=True)


def checkpoint_step(path: Path) -> int:
    """The step that a checkpoint's name tells."""
    return int(path.stem.removeprefix("step-"))
