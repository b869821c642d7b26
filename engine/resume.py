"""Where a run begins: its own newest checkpoint, one that is named, or first weights; nothing is lost on the way."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from data_process.errors import InputError, RunError
from engine.atomic import sweep_leftovers
from engine.checkpoint import RunState, checkpoint_step, latest_checkpoint, read_checkpoint, resume_state, saved_in
from engine.world import World

_LOG = logging.getLogger(__name__)
_OF_A_RUN = (
    "log.jsonl", "config.yaml", "classes.json", "trained-on.txt", "held-out.txt", "heartbeat.json", "tensorboard",
    "profile", "report.html", "eval-*.json", "hang-rank-*.txt", "checkpoints",
)  # fmt: skip
"""What `start_over` moves; checkpoints last, so that a kill in between leaves a run that goes on."""


@dataclass(frozen=True)
class Resume:
    """What is asked for.

    Attributes:
        source: ``auto``: the newest checkpoint of the run folder, first weights where there is none; ``none``: first
            weights; or a checkpoint or run folder, of this run (whose newer checkpoints are moved aside) or another.
        start_over: move what the run folder holds aside, into a folder ``earlier-001`` of it.
        restarted: whether the launcher has started this very job again: then it goes on by itself from its own
            newest checkpoint, for its words still say how it began.
    """

    source: str = "auto"
    start_over: bool = False
    restarted: bool = False

    def __post_init__(self) -> None:
        if self.start_over and self.source == "auto":
            raise InputError("--start-over goes with --resume none, or with --resume PATH of another run")


@dataclass(frozen=True)
class Beginning:
    """What was chosen; the same on every rank.

    Attributes:
        state: to go on from; None for first weights.
        source: where it came from.
        aside: files and folders of the run folder that have to make way, in the order in which they are moved.
        copied: those that are copied.
    """

    state: RunState | None
    source: Path
    aside: tuple[Path, ...] = ()
    copied: tuple[Path, ...] = ()


def begin(resume: Resume, run_dir: Path, world: World) -> Beginning:
    """Choose where to begin, and say by which rule; called by every rank. Nothing is moved yet.

    Raises:
        InputError: for checkpoints that would be passed over unasked, or one that is missing or damaged.
    """
    folder = run_dir / "checkpoints"
    taken, answer = None, None
    if world.is_main:
        try:
            taken = _chosen(resume, run_dir)
            answer = taken and str(taken.source)
        except InputError as error:
            answer = error
    answer = world.gather(answer)[0]
    if isinstance(answer, InputError):
        raise answer
    if answer is None:
        beginning = Beginning(resume_state(folder, world), folder)
    elif taken is not None:
        beginning = taken
    else:
        source = Path(answer)
        beginning = Beginning(read_checkpoint(source) if source.is_file() else None, source)
    if world.is_main:
        _LOG.info("%s", _explained(resume, beginning, folder))
    return beginning


def _chosen(resume: Resume, run_dir: Path) -> Beginning | None:
    """What is named, as rank 0 finds it; None for the newest of the run folder."""
    folder = run_dir / "checkpoints"
    own = saved_in(folder)
    if resume.source == "auto" or (resume.restarted and own):
        return None
    everything = tuple(path for name in _OF_A_RUN for path in sorted(run_dir.glob(name))) if resume.start_over else ()
    if resume.source == "none":
        if own and not resume.start_over:
            raise InputError(
                f"--resume none, but {folder} holds {len(own)} checkpoints; --resume auto goes on from them, another "
                "--run_dir begins beside them, and --start-over moves them into a folder of their own"
            )
        return Beginning(None, run_dir, everything)
    path = latest_checkpoint(Path(resume.source))
    state = read_checkpoint(path)
    if path.parent.resolve() == folder.resolve():
        if resume.start_over:
            raise InputError(f"--start-over would move {path} itself aside; leave it out, newer ones make way anyway")
        newer = tuple(one for one in own if checkpoint_step(one) > state.step)
        pointers = tuple(one for one in (folder / "best",) if one.is_file())
        return Beginning(state, path, newer, (run_dir / "log.jsonl", *pointers) if newer else ())
    if own and not resume.start_over:
        raise InputError(
            f"--resume {resume.source}, but {folder} holds {len(own)} checkpoints of its own; --resume auto goes on "
            "from them, another --run_dir begins beside them, and --start-over moves them into a folder of their own"
        )
    return Beginning(state, path, everything)


def make_way(beginning: Beginning, run_dir: Path) -> None:
    """Move aside what would be overwritten, and sweep what a killed start left; by rank 0, once nothing speaks against
    the start.

    Raises:
        RunError: if it cannot be moved.
    """
    for name in ("log.jsonl", "config.yaml", "classes.json", "trained-on.txt", "held-out.txt", "heartbeat.json"):
        sweep_leftovers(run_dir, name)
    if not beginning.aside:
        return
    try:
        target = _next_folder(run_dir)
        for path in beginning.copied:
            if path.is_file():
                shutil.copy2(path, target / path.name)
        for path in beginning.aside:
            place = target / path.relative_to(run_dir)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
    except OSError as error:
        raise RunError(
            f"cannot move what {run_dir} holds aside: {error}; mend that, or name another run_dir"
        ) from error
    _LOG.warning("what stood in the way in %s is now in %s", run_dir, target)


def _next_folder(run_dir: Path) -> Path:
    number = 1 + max((int(path.name[8:]) for path in run_dir.glob("earlier-*") if path.name[8:].isdecimal()), default=0)
    target = run_dir / f"earlier-{number:03d}"
    target.mkdir()
    return target


def _explained(resume: Resume, beginning: Beginning, folder: Path) -> str:
    """The order of precedence, and what it gave."""
    restarted = "this one was" if resume.restarted else "this one was not"
    asked = "not given" if resume.source == "auto" else resume.source
    found = f"step {beginning.state.step} of {beginning.source}" if beginning.state else "first weights"
    return (
        f"where to begin, the first that applies: 1. the newest checkpoint in {folder} for a job that was started "
        f"again ({restarted}); 2. --resume ({asked}); 3. the newest checkpoint in {folder}; 4. first weights. Begins "
        f"with {found}"
    )
