"""Data order and file reads of a run on thousands of ranks, simulated: what each step asks of a shared file system.

    python -m benchmarks.scale --ranks 4096

No pixel is read. The order of samples is the run's own (`pipelines.order`), so who reads what is exact; how long a read
takes is not simulated.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from pipelines.order import rank_slice, step_indices, steps_per_epoch


@dataclass(frozen=True)
class Scale:
    """What is simulated.

    Attributes:
        ranks: processes.
        ranks_per_node: on one machine.
        batch_per_rank: samples of a rank and step.
        videos: of the dataset.
        videos_per_shard: as built.
        reads_per_sample: of a sample's clips; one for each run of neighbouring frames.
        bytes_per_sample: of a sample's clips, as stored.
        steps: that are simulated, from the beginning.
        seed: of the order.
    """

    ranks: int = 4096
    ranks_per_node: int = 8
    batch_per_rank: int = 8
    videos: int = 240_000
    videos_per_shard: int = 512
    reads_per_sample: int = 2
    bytes_per_sample: int = 548_000
    steps: int = 7
    seed: int = 632


@dataclass(frozen=True)
class Load:
    """What comes out.

    Attributes:
        global_batch: samples of a step.
        steps_per_epoch: whole global batches.
        left_out: videos of an epoch that no step takes.
        seen_twice: samples that two ranks took in one epoch, over all steps that were simulated.
        differs: steps whose ranks' parts together are not the global batch.
        reads_per_step: of all ranks.
        gib_per_step: likewise.
        shards: of the dataset.
        shard_readers: nodes that read a shard in one step: mean and largest.
        node_shards: shards that one node reads from in one step: mean and largest.
        order_ms: to draw the order of an epoch, on each rank, once an epoch.
        step_us: to find a rank's part of a step, with the order drawn.
    """

    global_batch: int
    steps_per_epoch: int
    left_out: int
    seen_twice: int
    differs: int
    reads_per_step: int
    gib_per_step: float
    shards: int
    shard_readers: tuple[float, int]
    node_shards: tuple[float, int]
    order_ms: float
    step_us: float


def simulate(scale: Scale) -> Load:
    """The load of some steps.

    Raises:
        ValueError: for a global batch larger than the dataset.
    """
    batch = scale.ranks * scale.batch_per_rank
    per_epoch = steps_per_epoch(scale.videos, batch)
    nodes = -(-scale.ranks // scale.ranks_per_node)
    shards = -(-scale.videos // scale.videos_per_shard)
    taken = np.zeros((-(-scale.steps // per_epoch), scale.videos), dtype=np.int64)  # epoch by video
    readers, spread, differs = [], [], 0
    for step in range(scale.steps):
        whole = step_indices(scale.seed, step, global_batch=batch, num_samples=scale.videos)
        parts = [rank_slice(whole, rank=rank, world_size=scale.ranks) for rank in range(scale.ranks)]
        differs += int(not np.array_equal(np.concatenate(parts), whole))
        touched = np.zeros((nodes, shards), dtype=bool)
        for rank, part in enumerate(parts):
            taken[step // per_epoch, part] += 1
            touched[rank // scale.ranks_per_node, part // scale.videos_per_shard] = True
        readers.append(touched.sum(axis=0))
        spread.append(touched.sum(axis=1))
    return Load(
        global_batch=batch,
        steps_per_epoch=per_epoch,
        left_out=scale.videos - per_epoch * batch,
        seen_twice=int((taken > 1).sum()),
        differs=differs,
        reads_per_step=batch * scale.reads_per_sample,
        gib_per_step=batch * scale.bytes_per_sample / 2**30,
        shards=shards,
        shard_readers=(float(np.mean(readers)), int(np.max(readers))),
        node_shards=(float(np.mean(spread)), int(np.max(spread))),
        order_ms=1e3 * _seconds(lambda n: step_indices(n + 1, 0, global_batch=batch, num_samples=scale.videos), 5),
        step_us=1e6 * _seconds(lambda n: _part(scale, batch, n), 200),
    )


def _part(scale: Scale, batch: int, number: int) -> np.ndarray:
    whole = step_indices(scale.seed, 0, global_batch=batch, num_samples=scale.videos)
    return rank_slice(whole, rank=number % scale.ranks, world_size=scale.ranks)


def _seconds(call: Callable[[int], object], repeats: int) -> float:
    """Median time of a call after one more, whose caches it may use."""
    call(0)
    times = []
    for number in range(repeats):
        start = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    for name, value in asdict(Scale()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, metavar="N", help=f"({value})")
    load = simulate(Scale(**vars(parser.parse_args())))
    print(json.dumps(asdict(load), indent=1))


if __name__ == "__main__":
    main()
