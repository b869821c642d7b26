"""How long a run is, how wide its steps, how often it speaks and saves."""

from __future__ import annotations

from dataclasses import dataclass

from data_process.errors import InputError
from engine.best import EVAL, LOSS, METRIC


@dataclass(frozen=True)
class TrainConfig:
    """How long, how often, how wide.

    Attributes:
        epochs: length of the run in epochs; or give `steps`.
        steps: length of the run in steps; or give `epochs`.
        global_batch: samples of all ranks in one step.
        accumulate: passes in which each rank takes its part of a step, each over as many samples, with one exchange of
            gradients behind the last. Needs the memory of a pass. Samples, order and learning rate do not change, and
            for losses that are means over samples nor do weights and memories (to rounding). What looks at the batch
            sees a pass of it: batch norms, losses that contrast the samples of a batch (SimCLR, and DualVar and IIC on
            it), clips that are mixed of several samples, dropout's random numbers, the constant of NCE forms (that of
            the first pass).
        seed: of order, plans, first weights and dropout.
        log_every: steps between records.
        save_every: steps between checkpoints; one is always written at the end and at a stop.
        save_in_background: write them while training goes on, from a copy in the machine's memory.
        keep: newest checkpoints that stay.
        keep_every: checkpoints of steps that this divides stay for ever; 0 for none.
        max_skipped: steps whose loss or gradient is not finite that a run may leave out: no optimizer step, no row of a
            memory, the statistics of norm layers as before. Counted in log and checkpoints; one more stops the run.
            Above 0, every step waits for its gradients before the optimizer's step, which lets a GPU run dry for a
            moment; 0 stops at the first, found out where the log is written. Gradients that overflow under fp16 are no
            faults.
        ema: share of the old value in a moving average of the weights, kept beside them for evaluation and export
            (`--weights ema`); 0 for none.
        keep_best: what makes a checkpoint the best one, which stays and which ``checkpoints/best`` names: ``loss/NAME``
            of the log (the smallest; ``loss/total`` is the sum) or ``metric/NAME`` (the largest), as the mean of the
            records since the checkpoint before; or ``eval/NAME`` of what the run measures of itself (the largest, of
            ``eval/val_loss`` the smallest), each of which then has a checkpoint of its own. Empty for none.
        stop_at_step: leave after this step as if time had run out, and go on when started without it; 0 for never.
        channels_last: keep 3-D convolution weights in channels-last order, in which torch is faster.
        recompute: keep only what goes into each part of a backbone, and compute what is inside anew for its gradient:
            less memory, about a third more time, the same gradients. Not with `compile`, which cannot follow it and
            chooses for itself what to keep.
        sync_batch_norm: normalise by the statistics of all ranks' batches together.
        compile: compile the method by torch.compile.
        static_graph: tell DDP that every step uses the same parameters in the same way; needed where some parameter
            gets no gradient.
        tensorboard: write TensorBoard events where it is installed.
        wandb: project of Weights & Biases that curves go to as well (pip install "intravid[wandb]"; WANDB_MODE=offline
            keeps them on this machine); empty for none.
        hang_timeout_s: seconds within which a rank that hangs ends the whole job, named in the message; no stage of a
            step (waiting for data, a checkpoint, ...) may take longer. A process that is suspended for longer ends
            when it is continued. 0 waits for ever, as a debugger wants it.
        first_step_timeout_s: the same for the first step of every start, which compiles, where it is longer.
    """

    epochs: int | None = None
    steps: int | None = None
    global_batch: int = 16
    accumulate: int = 1
    seed: int = 632
    log_every: int = 10
    save_every: int = 500
    save_in_background: bool = True
    keep: int = 3
    keep_every: int = 0
    max_skipped: int = 0
    ema: float = 0.0
    keep_best: str = ""
    stop_at_step: int = 0
    channels_last: bool = True
    recompute: bool = False
    sync_batch_norm: bool = False
    compile: bool = False
    static_graph: bool = False
    tensorboard: bool = True
    wandb: str = ""
    hang_timeout_s: float = 1800.0
    first_step_timeout_s: float = 3600.0

    def __post_init__(self) -> None:
        positive = {
            name: getattr(self, name) for name in ("global_batch", "accumulate", "log_every", "save_every", "keep")
        }
        positive |= {name: getattr(self, name) for name in ("epochs", "steps") if getattr(self, name) is not None}
        for name, value in positive.items():
            if value < 1:
                raise InputError(f"train.{name} must be at least 1, got {value}")
        for name in ("seed", "keep_every", "max_skipped", "stop_at_step"):
            if getattr(self, name) < 0:
                raise InputError(f"train.{name} must not be negative, got {getattr(self, name)}")
        if self.keep_best and not self.keep_best.startswith((LOSS, METRIC, EVAL)):
            raise InputError(
                f"train.keep_best must be {LOSS}NAME or {METRIC}NAME or {EVAL}NAME, such as {LOSS}total; got "
                f"{self.keep_best}"
            )
        if not 0 <= self.ema < 1:
            raise InputError(f"train.ema ({self.ema}) must be 0 (off) or a share below 1, such as 0.999")
        if self.first_step_timeout_s < 0 or (self.hang_timeout_s < 10 and self.hang_timeout_s != 0):
            raise InputError(
                f"train.hang_timeout_s ({self.hang_timeout_s}) must be 0 (off) or at least 10 seconds, and "
                f"train.first_step_timeout_s ({self.first_step_timeout_s}) must not be negative"
            )
        if self.accumulate > 1 and self.static_graph:
            raise InputError(
                "train.accumulate above 1 cannot be used with train.static_graph: torch's DDP has to exchange "
                "gradients in the first pass of a static graph; switch one of them off"
            )
        if self.recompute and self.compile:
            raise InputError("train.recompute cannot be used with train.compile; switch one of them off")

    def num_steps(self, steps_per_epoch: int) -> int:
        """Length of the run in steps.

        Raises:
            InputError: unless exactly one of epochs and steps is given.
        """
        if (self.epochs is None) == (self.steps is None):
            raise InputError(f"give either train.epochs or train.steps; got {self.epochs} and {self.steps}")
        return self.steps if self.steps is not None else self.epochs * steps_per_epoch  # pyright: ignore[reportOptionalOperand]
