"""The loop: batches to losses to weights, with log, checkpoints and an agreed stop; knows no method by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from data_process.errors import RunError
from engine.beats import Stage
from engine.checkpoint import RunFacts
from engine.micro_batches import gradients
from engine.online import At, OnlineMeasure
from engine.optim import OptimConfig, set_learning_rate
from engine.precision import PrecisionConfig
from engine.profile import Follower, Profile, profiling
from engine.reporter import Reporter, reporting
from engine.resume import Resume
from engine.schedule import ScheduleConfig
from engine.session import Session, seed_dropout
from engine.stop import Stop, StopFlag
from engine.train_config import TrainConfig
from engine.watchdog import Watchdog
from engine.world import World, peers_answer
from models.method import Method
from pipelines.batch import ViewBatch

_LOG = logging.getLogger(__name__)


class BatchSource(Protocol):
    """What the loop asks of a loader.

    Attributes:
        wait_s: seconds that the loop has waited for batches so far.
    """

    wait_s: float

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in one epoch."""
        ...

    def batches(self, start_step: int) -> Iterator[ViewBatch]:
        """Batches of steps `start_step`, `start_step` + 1 and so on without end, the part of this rank."""
        ...


class Outcome(Enum):
    """How `train` ended. All but FINISHED go on at the same step when started again."""

    FINISHED = "finished"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    REQUEUE = "requeue"


_OUTCOMES = {
    Stop.NONE: Outcome.PAUSED,
    Stop.INTERRUPT: Outcome.INTERRUPTED,
    Stop.TERMINATE: Outcome.TERMINATED,
    Stop.REQUEUE: Outcome.REQUEUE,
}


def train(
    method: Method,
    loader: BatchSource,
    *,
    config: TrainConfig,
    optim: OptimConfig,
    schedule: ScheduleConfig,
    precision: PrecisionConfig,
    run_dir: Path,
    world: World,
    stop: StopFlag,
    facts: RunFacts,
    accepted: Callable[[], object] = lambda: None,
    watchdog: Watchdog | None = None,
    profile: Profile | None = None,
    resume: Resume = Resume(),  # noqa: B008 - frozen
    online: Sequence[OnlineMeasure] = (),
) -> Outcome:
    """Train a method to the end of the run, from its last checkpoint if there is one; called by every rank.

    On the CPU and at equal world size, weights, buffers, optimizer and the exact part of the log do not depend on how
    often the run was stopped or killed on the way. A finished run that is started again returns at once.

    Args:
        method: with its first weights, the same on every rank (DDP spreads those of rank 0).
        loader: this rank's batches.
        config: how long, how often, how wide.
        optim: the optimizer.
        schedule: its learning rate.
        precision: number formats.
        run_dir: gets log.jsonl, heartbeat.json, tensorboard/ and checkpoints/.
        world: from `engine.world.join`.
        stop: watching signals or not; asked once a step.
        facts: what a later resume is held to; its seed and global batch are those of `config`.
        accepted: called once steps are to be done and nothing in the run folder speaks against them.
        watchdog: from `engine.watchdog.watching`, started here; None to wait for a rank that hangs as long as it does.
        profile: time and trace the next steps, then pause; None for training.
        resume: where to begin, other than with the newest checkpoint of the run folder.
        online: what the run measures of itself between steps, for the log, the best checkpoint and the schedule.

    Raises:
        InputError: if the run folder holds a run on other samples, or the settings contradict each other.
        RunError: for a non-finite loss, a full disk, or a lost peer.
    """
    session = Session(
        method,
        config=config,
        optim=optim,
        schedule=schedule,
        precision=precision,
        steps_per_epoch=loader.steps_per_epoch,
        run_dir=run_dir,
        world=world,
        facts=facts,
        online=online,
    )
    watchdog = watchdog or Watchdog(0.0)
    with closing(session):
        try:
            return _train(
                session, loader, watchdog, run_dir=run_dir, stop=stop, accepted=accepted, profile=profile, resume=resume
            )
        finally:
            watchdog.at(Stage.CLOSE)


def _train(
    session: Session,
    loader: BatchSource,
    watchdog: Watchdog,
    *,
    run_dir: Path,
    stop: StopFlag,
    accepted: Callable[[], object],
    profile: Profile | None,
    resume: Resume,
) -> Outcome:
    config, world = session.config, session.world
    start, total = session.resume(resume), session.num_steps
    steps = range(start, min(total, config.stop_at_step or total))
    if not (steps or session.owes):
        _LOG.info("%s is at step %d of %d: nothing is left to do", run_dir, start, total)
        return Outcome.FINISHED if start >= total else Outcome.PAUSED
    steps = profile.limit(steps) if profile and steps else steps
    session.make_way()
    accepted()
    watchdog.start(run_dir, world, step=start)
    with reporting(
        run_dir,
        world,
        done=start,
        total=total,
        wait_s=loader.wait_s,
        tensorboard=config.tensorboard,
        wandb_project=config.wandb,
    ) as report:
        with peers_answer(), profiling(profile, watchdog, run_dir, world) as follower:
            if session.owes:
                _settle(session, report, follower.at, start)
            done, reason = _loop(session, loader, report, stop, follower, steps) if steps else (start, Stop.NONE)
        outcome = Outcome.FINISHED if done == total and not session.owes else _OUTCOMES[reason]
        report.end(done, outcome.value)
    watchdog.at(Stage.CLOSE)
    world.wait_for_all()  # a rank that left early could end the job before rank 0 has closed its files
    return outcome


def _loop(
    session: Session, loader: BatchSource, report: Reporter, stop: StopFlag, follower: Follower, steps: range
) -> tuple[int, Stop]:
    """Carry out steps until their end or until the ranks agree to stop: number of finished steps, and why."""
    config, world = session.config, session.world
    precision, optimizer, at = session.precision, session.optimizer, follower.at
    done, reason = steps.start, Stop.NONE
    for step, batch in zip(steps, loader.batches(steps.start), strict=False):
        at(Stage.FORWARD)
        done = step + 1
        eval_due = session.online.is_due(done)
        log_due = done % config.log_every == 0 or done == session.num_steps or eval_due
        seed_dropout(config.seed, step, world.rank)
        session.faults.begin()
        optimizer.zero_grad()
        here = batch.to(world.device, non_blocking=True)
        with session.cost.counted():
            losses, metrics = gradients(session.module, here, parts=config.accumulate, precision=precision, at=at)
        loss: Any = sum(losses.values())
        at(Stage.OPTIMIZER)
        set_learning_rate(optimizer, lr := session.learning_rate(step))
        norm = session.gradient_norm(log_due=log_due)
        if session.is_sound(step, loss, norm):
            session.step()
        else:
            precision.leave_out(optimizer)

        at(Stage.AGREE, done)
        report.step_done(done)
        reason = stop.agreed()
        last = done == steps.stop or reason is not Stop.NONE
        save_due = done % config.save_every == 0 or last or (eval_due and session.best.is_evaluated)
        # A stop may leave little time: it saves, and the next start begins with what is owed.
        session.owes = eval_due and reason is not Stop.NONE
        evals = _evaluated(session, report, at, done) if eval_due and not session.owes else {}
        at(Stage.LOG)
        if log_due or save_due:  # the only place that waits for the device
            session.check_finite(done)
        if log_due:
            told = report.log(
                done,
                {**losses, "total": loss},
                metrics,
                epoch=step // loader.steps_per_epoch,
                plan_digest=batch.plan_digest,
                lr=lr,
                grad_norm=norm,
                skipped=session.faults.num_skipped,
                wait_s=loader.wait_s,
                samples_per_step=config.global_batch,
                views=len(batch.clips),
                cost=session.cost,
                evals=evals,
            )
            session.observe(done, told)
        if save_due:
            at(Stage.SAVE)
            session.save(done, first=report.syncing(), wait=last)
        if last:
            return done, reason
        at(Stage.DATA)
    raise RunError(f"the loader ended after step {done}, {steps.stop} were to be done")


def _evaluated(session: Session, report: Reporter, at: At, done: int) -> dict[str, float]:
    """What the run measures of itself after `done` steps; no part of the time of training."""

    def alive(stage: Stage) -> None:
        at(stage)
        report.alive(done)

    at(Stage.EVALUATE)
    with report.paused():
        return session.online.take(done, session.method, alive)


def _settle(session: Session, report: Reporter, at: At, done: int) -> None:
    """Measure what a stop after `done` steps has left, and save that it is measured."""
    # As the optimizer had it when it was saved: the file that is written again is to be that of an unbroken run.
    set_learning_rate(session.optimizer, session.learning_rate(done - 1))
    evals = _evaluated(session, report, at, done)
    at(Stage.LOG)
    report.add_evals(done, evals)
    session.settle(evals)
    at(Stage.SAVE)
    session.save(done, first=report.syncing(), wait=done == session.num_steps)
    at(Stage.DATA)
