"""Pretraining, wired: shards, method, loader and process group into the engine's loop."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import numpy as np

from data_process.errors import InputError
from data_process.video_set import VideoSet
from engine.atomic import replacing
from engine.checkpoint import RunFacts
from engine.profile import Profile
from engine.resume import Resume
from engine.stop import Stop, StopFlag
from engine.trainer import Outcome, train
from engine.watchdog import Watchdog, watching
from engine.world import World, join, leave
from launch.config import LoadedRun
from launch.env import check_network, check_one_checkout, rank_variables, was_started_again
from launch.initial_weights import begins, load_initial, refuse_other_weights
from launch.online import online_measures
from launch.requeue import leave_stopped, seconds_left
from launch.shared_cores import share_cores
from models.method import DatasetFacts
from pipelines.loader import build_loader
from pipelines.paired import PairedFlow

CLASSES_FILE = "classes.json"
"""Of a run folder: names of the classes in the order of the labels, which say what a classifier's scores mean."""

TRAINED_FILE, HELD_OUT_FILE = "trained-on.txt", "held-out.txt"
"""Of a run folder: ids of the videos that a share was taken of or left out; `data.subset` reads such files."""

_LOG = logging.getLogger(__name__)
_STOPS = {
    Outcome.INTERRUPTED: Stop.INTERRUPT,
    Outcome.TERMINATED: Stop.TERMINATE,
    Outcome.REQUEUE: Stop.REQUEUE,
}


def pretrain(
    loaded: LoadedRun,
    *,
    stop_after_s: float = 0.0,
    profile: Profile | None = None,
    resume: str = "auto",
    start_over: bool = False,
) -> int:
    """Train to the end, or to a stop with the state saved; the exit status. Called by every rank.

    A run folder with checkpoints is resumed from the newest; the same command therefore starts and resumes. A job that
    SLURM or torchrun has started again does so whatever `resume` says, for its words are those that it began with.

    Args:
        loaded: the configuration.
        stop_after_s: save and stop (under SLURM: requeue) after this many seconds; 0 for no deadline.
        profile: time and trace the next steps, then stop with the state saved; None for training.
        resume: auto, none, or a checkpoint or run folder; see `engine.resume.Resume`.
        start_over: move what the run folder holds aside.
    """
    begin = Resume(resume, start_over=start_over, restarted=was_started_again(os.environ))
    check_one_checkout()
    os.environ.update(rank_variables(os.environ))
    check_network(os.environ)
    config = loaded.config
    _check_ranks(config.train.global_batch, config.train.accumulate)
    world = join(config.dist)
    set_up_logging(world)
    sharing = share_cores(world)
    # Handlers stand before the data is opened: a signal during start-up is answered at the first step, not lost.
    flag = StopFlag(world, after_seconds=_deadline(world, stop_after_s))
    limits = config.train.hang_timeout_s, config.train.first_step_timeout_s
    # The watch outlives the loader: one whose threads hang would not close either.
    with flag.watching() as stop, watching(*limits) as watchdog:
        outcome = _run(loaded, world, stop, watchdog, sharing, profile=profile, resume=begin)
        previous = dict(stop.previous)
    leave()
    _LOG.info("%s: %s", config.run_dir, outcome.value)
    if outcome in _STOPS:
        return leave_stopped(_STOPS[outcome], rank=world.rank, previous=previous)
    return 0


def _check_ranks(global_batch: int, passes: int) -> None:
    # Known before any rank waits for another, and so told without waiting.
    told = os.environ.get("WORLD_SIZE", "1")
    ranks = int(told) if told.isdecimal() and int(told) else 1  # anything else is told by `join`
    if remainder := global_batch % (ranks * passes):
        times = f" times the {passes} passes of train.accumulate" if passes > 1 else ""
        raise InputError(
            f"train.global_batch ({global_batch}) must be divisible by the {ranks} ranks{times}; "
            f"{global_batch - remainder + ranks * passes} is the next that is"
        )


def _deadline(world: World, stop_after_s: float) -> float:
    """Seconds until the own stop, the earlier of the one asked for and the end of the SLURM job; 0 for none."""
    limits = (stop_after_s, seconds_left(os.environ) if world.is_main else 0.0)
    return min((limit for limit in limits if limit > 0), default=0.0)


def _run(
    loaded: LoadedRun,
    world: World,
    stop: StopFlag,
    watchdog: Watchdog,
    sharing: int,
    *,
    profile: Profile | None,
    resume: Resume,
) -> Outcome:
    config, run_dir = loaded.config, Path(loaded.config.run_dir)
    # A copy to a local disk (data.stage) takes each machine as long as it takes.
    videos = world.finish_together(config.data.open)
    flow = config.data.open_flow(videos)
    # Data that do not fill a batch are refused by the loader, with more to say.
    num_steps = config.train.num_steps(max(1, len(videos) // config.train.global_batch))
    method = loaded.build_method(DatasetFacts(len(videos), len(videos.classes), num_steps))
    if config.finetune.weights:
        if begins(resume, run_dir):
            load_initial(method, config.finetune, loaded.plain["method"])
        else:
            refuse_other_weights(config.finetune, run_dir)
    given = {"world": world, "sharing": sharing, "steps_per_epoch": max(1, len(videos) // config.train.global_batch)}
    online = world.finish_together(lambda: online_measures(config, videos, method, **given))
    with build_loader(
        videos,
        method.planner(),
        method.clip_format,
        config=config.pipeline,
        seed=config.train.seed,
        global_batch=config.train.global_batch,
        rank=world.rank,
        world_size=world.world_size,
        local_ranks=sharing,
        device=world.device,
        flow=PairedFlow(*flow) if flow else None,
    ) as loader:
        return train(
            method,
            loader,
            config=config.train,
            optim=config.optim,
            schedule=config.schedule,
            precision=config.precision,
            run_dir=run_dir,
            world=world,
            stop=stop,
            facts=RunFacts(config.train.seed, config.train.global_batch, _digest(videos, flow), loaded.plain),
            # Not earlier: a start that is refused must leave the configuration of the run that is there.
            accepted=lambda: _write_config(run_dir, loaded, videos) if world.is_main else None,
            watchdog=watchdog,
            profile=profile,
            resume=resume,
            online=online,
        )


def _digest(videos: VideoSet, flow: tuple[VideoSet, np.ndarray] | None) -> str:
    return f"{videos.digest}+{flow[0].digest}" if flow else videos.digest


def _write_config(run_dir: Path, loaded: LoadedRun, videos: VideoSet) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    with replacing(run_dir / CLASSES_FILE) as file:
        file.write(json.dumps(list(videos.classes), indent=1).encode())
    data, lists = loaded.config.data, {}
    if data.label_fraction < 1 or data.held_out:
        lists[TRAINED_FILE] = videos
        _LOG.info("trained on %d videos of %d classes: %s", len(videos), _num_classes(videos), run_dir / TRAINED_FILE)
    if data.held_out:
        lists[HELD_OUT_FILE] = held = data.open_held_out()
        _LOG.info("held out %d videos of %d classes: %s", len(held), _num_classes(held), run_dir / HELD_OUT_FILE)
    for name, chosen in lists.items():
        with replacing(run_dir / name) as file:
            file.write("".join(f"{one}\n" for one in chosen.ids()).encode())
    with replacing(run_dir / "config.yaml") as file:
        file.write(loaded.text.encode())


def _num_classes(videos: VideoSet) -> int:
    return len(set(videos.labels.tolist()))


def set_up_logging(world: World | None = None) -> None:
    """Messages to standard error: all of rank 0, warnings of the others with their rank."""
    rank = world.rank if world else 0
    form = "%(message)s" if rank == 0 else f"[rank {rank}] %(levelname)s %(message)s"
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format=form, force=True)
