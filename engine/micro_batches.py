"""Gradients of a step in several passes over parts of its batch: less memory, the same number of all-reduces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from engine.beats import Stage
from engine.precision import Precision
from pipelines.batch import ViewBatch

Scalars = dict[str, Tensor]


def gradients(
    module: nn.Module, batch: ViewBatch, *, parts: int, precision: Precision, at: Callable[[Stage], None]
) -> tuple[Scalars, Scalars]:
    """Add the gradients of a batch to the parameters; its losses and metrics, means over the micro-batches.

    The loss of the step is the mean over the micro-batches' losses. Under DDP only the last pass exchanges gradients,
    by then the sums of all passes.

    Args:
        module: batch to (losses, metrics) by name.
        batch: of this rank.
        parts: micro-batches of equal size.
        precision: autocast and loss scale.
        at: is told the stage of the step. Up to the last forward pass all is `Stage.FORWARD`, since a rank that waits
            in a later pass must not seem to be behind one that hangs in an earlier.
    """
    given = []
    for number, part in enumerate(batch.split(parts) if parts > 1 else (batch,), start=1):
        last = number == parts
        with nullcontext() if last else _without_exchange(module):
            at(Stage.FORWARD)
            with precision.autocast():
                losses, metrics = module(part)
            if last:
                at(Stage.BACKWARD)
            total: Any = sum(losses.values())
            precision.backward(total / parts if parts > 1 else total)
        given.append((losses, metrics))
    losses, metrics = given[0] if parts == 1 else (_mean([pair[which] for pair in given]) for which in (0, 1))
    return {name: value.detach() for name, value in losses.items()}, dict(metrics)


def _without_exchange(module: nn.Module) -> Any:
    # A compiled module passes the question on to the one inside of it.
    return module.no_sync() if hasattr(module, "no_sync") else nullcontext()  # pyright: ignore[reportCallIssue]


def _mean(scalars: list[Mapping[str, Tensor]]) -> Scalars:
    return {name: torch.stack([one[name].detach() for one in scalars]).mean(dim=0) for name in scalars[0]}
