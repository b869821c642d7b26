"""A method in training: wrapped for its ranks and device, with its optimizer, its checkpoints and its resume."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from data_process.errors import InputError, RunError
from engine.averages import WeightAverages
from engine.background_save import BackgroundSaver
from engine.best import EVAL, Best
from engine.checkpoint import RunFacts, RunState, refuse_changed, write_state
from engine.faults import FaultWatch, TooManyFaultsError
from engine.online import Online, OnlineMeasure
from engine.optim import OptimConfig, build_optimizer, optimizer_state, restore_optimizer
from engine.plateau import Plateau
from engine.precision import Precision, PrecisionConfig
from engine.resume import Resume, begin, make_way
from engine.schedule import ScheduleConfig, build_schedule
from engine.train_config import TrainConfig
from engine.utilisation import StepFlops
from engine.world import World
from models.backbone import Backbone
from models.method import Method
from models.sharded_bank import gathered_rows
from models.sync_norm import synchronise_norms
from pipelines.batch import ViewBatch

_LOG = logging.getLogger(__name__)


class Session:
    """Everything of a run that has state.

    Args:
        method: with its first weights.
        config: how long, how often, how wide.
        optim: the optimizer.
        schedule: its learning rate.
        precision: number formats.
        steps_per_epoch: whole global batches in an epoch.
        run_dir: folder of the run.
        world: all ranks.
        facts: what a resume is held to.
        online: what the run measures of itself.

    Attributes:
        config: as given.
        world: as given.
        num_steps: length of the run.
        clip_norm: largest norm of all gradients together, 0 for no clipping.
        method: on its device, without wrappers.
        module: the method as it is called: batch to (losses, metrics), wrapped by DDP or torch.compile where asked.
        optimizer: over the parameters that want a gradient.
        precision: carries out the step.
        faults: looks for what is not finite.
        averages: of the weights, where they are asked for.
        best: the best checkpoint so far, where that is asked for.
        plateau: the learning rate that follows a value of the log; None for another schedule.
        online: what the run measures of itself.
        owes: whether what is due to be measured after the last finished step is yet to be.
        cost: operations of a step.

    Raises:
        InputError: if settings contradict each other or differ between ranks.
    """

    def __init__(
        self,
        method: Method,
        *,
        config: TrainConfig,
        optim: OptimConfig,
        schedule: ScheduleConfig,
        precision: PrecisionConfig,
        steps_per_epoch: int,
        run_dir: Path,
        world: World,
        facts: RunFacts,
        online: Sequence[OnlineMeasure] = (),
    ) -> None:
        _check(config, facts, world)
        self.config, self.world, self._facts = config, world, facts
        self.num_steps = config.num_steps(steps_per_epoch)
        self._steps_per_epoch, base_lr = steps_per_epoch, optim.rate_for(config.global_batch)
        self._schedule = build_schedule(
            schedule, base_lr=base_lr, num_steps=self.num_steps, steps_per_epoch=steps_per_epoch
        )
        self.plateau = Plateau(schedule, base_lr) if schedule.name == "plateau" else None
        self.online = Online(online, num_steps=self.num_steps)
        self.owes = False
        _check_measured(config, schedule, online)
        self.clip_norm = optim.clip_norm
        self._run_dir, self._folder = run_dir, run_dir / "checkpoints"
        self._saver = BackgroundSaver(self._folder, keep=config.keep, keep_every=config.keep_every)
        self.method = method.to(world.device).train()
        if config.accumulate > 1 and world.is_main:
            _warn_of_parts(method, config.accumulate)
        if config.sync_batch_norm:
            synchronise_norms(method)
        if config.channels_last:
            use_channels_last(method)
        if config.recompute:
            for part in method.modules():
                if isinstance(part, Backbone):
                    part.recompute = True
        self.optimizer = build_optimizer(optim, method, device=world.device)
        self.averages = WeightAverages(method, decay=config.ema) if config.ema else None
        self.best = Best(config.keep_best)
        self.cost = StepFlops(world.device, precision, enabled=not config.compile)
        self.precision = Precision(precision, world.device)
        self.module: nn.Module = _NamedScalars(method)
        self.faults = FaultWatch(
            method,
            world,
            run_dir,
            max_skipped=config.max_skipped,
            judge_gradients=not self.precision.scales_loss,
        )

    def learning_rate(self, step: int) -> float:
        """The rate used in a step (from 0), the next that is done."""
        return self.plateau.rate if self.plateau else self._schedule(step)

    def observe(self, done: int, told: Mapping[str, float]) -> None:
        """Take note of the record of a step for what follows the log.

        Args:
            done: finished steps.
            told: as `engine.reporter.Reporter.log` returns it.
        """
        self.best.observe(told)
        if self.plateau:
            self.plateau.observe(told, epoch_ends=done % self._steps_per_epoch == 0)

    def settle(self, evals: Mapping[str, float]) -> None:
        """Take note of what was measured of a step whose record was written before."""
        told = {f"{EVAL}{name}": value for name, value in evals.items()}
        if self.best.is_evaluated:
            self.best.observe(told)
        if self.plateau and self.plateau.is_evaluated:
            self.plateau.observe(told, epoch_ends=False)
        self.owes = False

    def resume(self, asked: Resume) -> int:
        """Load the checkpoint to begin with, wrap the method, and say how many steps are finished.

        Raises:
            InputError: if that checkpoint belongs to other samples or another method, or others are in the way.
        """
        beginning = begin(asked, self._run_dir, self.world)
        state = beginning.state
        if state is not None:
            self._load(state, beginning.source)
        self._beginning = replace(beginning, state=None)  # its tensors are not needed any more
        self.module = _wrapped(self.module, self.config, self.world)
        return state.step if state else 0

    def make_way(self) -> None:
        """Move aside what the run folder holds of another beginning; nothing speaks against this one any more."""
        if self.world.is_main:
            make_way(self._beginning, self._run_dir)

    def gradient_norm(self, *, log_due: bool) -> Tensor | None:
        """Norm of all gradients before they are clipped, (); None where nobody asks for it."""
        if not (self.clip_norm > 0 or self.faults.wants_norm or log_due):
            return None
        return self.precision.gradient_norm(self.optimizer, self.method.parameters(), clip_norm=self.clip_norm)

    def step(self) -> None:
        """The optimizer's step, and what follows the weights."""
        self.precision.step(self.optimizer)
        self.method.after_step()
        if self.averages:
            self.averages.update()

    def check_finite(self, step: int) -> None:
        """Fail on every rank if the loss of any rank was not finite since the last check; waits for the device.

        Args:
            step: finished steps.

        Raises:
            RunError: naming the first faulty step; the state is written beside the checkpoints.
        """
        if told := self.faults.found():
            self._fail(step, told)

    def is_sound(self, step: int, loss: Tensor, norm: Tensor | None) -> bool:
        """Whether the optimizer may step; the same on all ranks.

        Raises:
            RunError: for one faulty step more than `train.max_skipped`.
        """
        try:
            return self.faults.is_sound(step, loss, norm)
        except TooManyFaultsError as error:
            self._fail(step, str(error))

    def _fail(self, step: int, told: str) -> NoReturn:
        # Not named step-*.pt: a resume must go on from weights that were still good.
        path = self._folder / f"nonfinite-{step:09d}.pt"
        state = self._state(step)
        if self.world.is_main:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_state(path, state)
        raise RunError(
            f"{told} The state is in {path} for a look, and starting again goes on from the last good checkpoint. "
            "Lower optim.lr, set optim.clip_norm, lengthen schedule.warmup, set precision.dtype to fp32, or let "
            "train.max_skipped steps be left out"
        )

    def save(self, step: int, *, first: Callable[[], object] = lambda: None, wait: bool = False) -> None:
        """Write a checkpoint; rank 0 does, in the background where it is asked to, the others give it their part.

        Args:
            step: finished steps.
            first: carried out before it is written.
            wait: until it is on the disk.
        """
        self.best.judge(step)
        if self.world.is_main:
            self._saver.wait()  # for the memory of what was gathered last
        state = self._state(step)
        if not self.world.is_main:
            return
        self._saver.save(state, first=first)
        if wait or not self.config.save_in_background:
            self._saver.wait()

    def close(self) -> None:
        """Wait for the last checkpoint, and end the thread that writes."""
        self._saver.close()

    def _state(self, step: int) -> RunState:
        """Complete on rank 0; called by all ranks."""
        return RunState(
            facts=self._facts,
            step=step,
            world_size=self.world.world_size,
            method=self.method.state_dict(),
            gathered=gathered_rows(self.method),
            optimizer=optimizer_state(self.optimizer),
            scaler=self.precision.state(),
            ema=self.averages.state() if self.averages else {},
            best=self.best.state,
            plateau=self.plateau.state if self.plateau else {},
            num_skipped=self.faults.num_skipped,
            owes=self.owes,
        )

    def _load(self, state: RunState, source: Path) -> None:
        refuse_changed(state.facts, self._facts, source=source)
        if state.world_size != self.world.world_size:
            _LOG.warning(
                "%d ranks made the checkpoint, %d go on: the same clips per step, but sums round differently and "
                "batch norm sees other parts",
                state.world_size,
                self.world.world_size,
            )
        try:
            self.method.load_state_dict(dict(state.method))
        except RuntimeError as error:
            raise InputError(
                f"the checkpoint in {source} does not fit the method as it is configured now: {error}. Set the "
                "method's settings as before, or start a new run in another folder"
            ) from error
        restore_optimizer(self.optimizer, dict(state.optimizer))
        self.precision.restore(dict(state.scaler))
        if self.averages:
            self.averages.restore(state.ema)
        if self._folder in (source, source.parent):  # another run's best is not in this folder
            self.best.restore(state.best)
        if self.plateau:
            self.plateau.restore(state.plateau)
        self.faults.num_skipped = state.num_skipped
        self.owes = state.owes and self.online.is_due(state.step)
        _LOG.info("going on from step %d of %s", state.step, source)


def use_channels_last(module: nn.Module) -> None:
    """Lay the weights of 3-D convolutions out channels-last, in place.

    `Module.to(memory_format=...)` does not do: it refuses modules that also hold 4-D weights.
    """
    for parameter in module.parameters():
        if parameter.ndim == 5:
            # contiguous() would leave the strides of 1x1x1 kernels, which fit both layouts, and DDP would then copy
            # their channels-last gradients in every step.
            moved = torch.empty_like(parameter.data, memory_format=torch.channels_last_3d)
            parameter.data = moved.copy_(parameter.data)


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Seed torch's own generators from (seed, step, rank), so that a resume needs no generator state.

    Dropout and stochastic depth take no generator argument: this is the only place that touches the global one.
    `torch.manual_seed` would draw the same numbers, but writes down the whole stack of calls for devices that are not
    there (measured: 0.15 to 0.3 ms a step, where the 10 us of mixing the numbers are all that is left).
    """
    mixed = int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    torch.default_generator.manual_seed(mixed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(mixed)


class _NamedScalars(nn.Module):
    """A method with plain dictionaries for output: DDP does not look for tensors inside a MethodOutput."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: ViewBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        output = self.method(batch)
        return dict(output.losses), dict(output.metrics)


def _warn_of_parts(method: Method, parts: int) -> None:
    """Say what gradient accumulation changes in a method beside its memory."""
    name = type(method).__name__
    if method.compares_batch:
        _LOG.warning(
            "train.accumulate %d: the loss of %s compares the samples of a batch, and now those of a pass: 1/%d of the "
            "negatives",
            parts, name, parts,
        )  # fmt: skip
    if method.mixes_samples:
        _LOG.warning("train.accumulate %d: %s makes clips of several samples, and now of those of a pass", parts, name)
    if any(isinstance(module, _NormBase) for module in method.modules()):
        _LOG.warning("train.accumulate %d: the batch norms of %s see 1/%d of the batch at a time", parts, name, parts)


# Banks and queues are kept equal by the method, and rewriting buffers between two forwards of one step would break the
# graph, so DDP leaves them alone after the start. torch 2.13 renamed the option.
_BUFFER_OPTION = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(nn.parallel.DistributedDataParallel).parameters
    else "broadcast_buffers"
)


def _wrapped(module: nn.Module, config: TrainConfig, world: World) -> nn.Module:
    if world.world_size > 1:
        leave_buffers: dict[str, Any] = {_BUFFER_OPTION: False}
        module = nn.parallel.DistributedDataParallel(
            module,
            device_ids=[world.device] if world.device.type == "cuda" else None,
            **leave_buffers,
            gradient_as_bucket_view=True,
            static_graph=config.static_graph,
        )
    if config.compile:
        compiled: Any = torch.compile(module)
        return compiled
    return module


def _check_measured(config: TrainConfig, schedule: ScheduleConfig, online: Sequence[OnlineMeasure]) -> None:
    wanted = {"train.keep_best": config.keep_best}
    wanted |= {"schedule.measure": schedule.measure} if schedule.name == "plateau" else {}
    for name, measure in wanted.items():
        if measure.startswith(EVAL) and not online:
            raise InputError(
                f"{name} {measure} is a value of an evaluation, but this run measures nothing of itself; set "
                "validate.source (such as held_out) or online.every_epochs, or name a value of the log"
            )


def _check(config: TrainConfig, facts: RunFacts, world: World) -> None:
    if config.global_batch % (world.world_size * config.accumulate):
        passes = f" times the {config.accumulate} passes of train.accumulate" if config.accumulate > 1 else ""
        raise InputError(
            f"train.global_batch ({config.global_batch}) must be divisible by the {world.world_size} ranks{passes}"
        )
    if (facts.seed, facts.global_batch) != (config.seed, config.global_batch):
        raise ValueError(f"facts {facts.seed, facts.global_batch} are not those of {config}")
    everyone = world.gather(replace(facts, config={}))
    for rank, theirs in enumerate(everyone):
        if theirs != everyone[0]:
            raise InputError(
                f"rank {rank} has {theirs}, rank 0 has {everyone[0]}: start all ranks with the same settings and data"
            )
