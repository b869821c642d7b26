"""Which samples make up which step: pure functions of (seed, step), the same for any number of ranks."""

from functools import lru_cache

import numpy as np


def epoch_order(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    """Permutation of all samples in one epoch, (num_samples,) int64, read-only.

    Drawn from a Philox generator keyed by (seed, epoch), so nothing has to be stored to find it again.
    """
    return _epoch_order(int(seed), int(epoch), int(num_samples))


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    key = np.array([seed, epoch], dtype=np.uint64)
    order = np.random.Generator(np.random.Philox(key=key)).permutation(num_samples)
    order.setflags(write=False)
    return order


def steps_per_epoch(num_samples: int, global_batch: int) -> int:
    """Whole global batches in one epoch; the remainder of each epoch's permutation is left out of that epoch.

    Raises:
        ValueError: if the global batch is larger than the dataset.
    """
    if not 0 < global_batch <= num_samples:
        raise ValueError(f"global batch {global_batch} must lie between 1 and the number of samples, {num_samples}")
    return num_samples // global_batch


def epoch_of_step(step: int, num_samples: int, global_batch: int) -> int:
    """Epoch (from 0) that step (from 0) belongs to."""
    return step // steps_per_epoch(num_samples, global_batch)


def step_indices(seed: int, step: int, *, global_batch: int, num_samples: int) -> np.ndarray:
    """Samples of the whole global batch of a step, (global_batch,) int64."""
    epoch, step_in_epoch = divmod(step, steps_per_epoch(num_samples, global_batch))
    start = step_in_epoch * global_batch
    return epoch_order(seed, epoch, num_samples)[start : start + global_batch]


def rank_slice(indices: np.ndarray, *, rank: int, world_size: int) -> np.ndarray:
    """Contiguous part of a global batch that belongs to a rank; ranks' parts concatenated in rank order are the whole.

    Raises:
        ValueError: if the batch does not divide by the number of ranks.
    """
    if len(indices) % world_size:
        raise ValueError(f"global batch {len(indices)} must be divisible by the {world_size} ranks")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} must lie in 0..{world_size - 1}")
    per_rank = len(indices) // world_size
    return indices[rank * per_rank : (rank + 1) * per_rank]


def evaluation_slice(num_samples: int, *, rank: int, world_size: int) -> range:
    """Samples that a rank evaluates: contiguous, none twice, none padded; sizes differ by at most one."""
    base, extra = divmod(num_samples, world_size)
    start = rank * base + min(rank, extra)
    return range(start, start + base + (rank < extra))
