"""Parts of a network whose inner activations are computed anew in the backward pass instead of being kept.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(part: nn.Module, x: Tensor) -> Tensor:
    """Output of a part that keeps only its input for the backward pass.

    Batch norms take a batch into their running statistics once: plain recomputation would do so twice.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still_statistics(part)

    return checkpoint(part, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def _still_statistics(part: nn.Module) -> Iterator[None]:
    """Batch norms that compute as in training and leave their statistics as they are.

    The statistics are written with factor 0: without them other tensors would be kept than in the forward pass.
    """
    norms = [module for module in part.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
