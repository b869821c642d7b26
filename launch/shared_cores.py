"""The cores of a machine, shared by the ranks that run on it."""

from __future__ import annotations

import os
import socket

import torch

from data_process.cores import available_cores
from engine.world import World


def ranks_on_these_cores(world: World) -> int:
    """How many ranks may run on the cores of this one: all of its machine, or 1 where SLURM gave each its own."""
    mine = (socket.gethostname(), os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0})
    everyone = world.gather(mine)
    return sum(host == mine[0] and not cores.isdisjoint(mine[1]) for host, cores in everyone)


def share_cores(world: World) -> int:
    """Give torch this rank's share of the cores, unless OMP_NUM_THREADS says how many; the number of ranks that share.

    Called by every rank.
    """
    sharing = ranks_on_these_cores(world)
    if sharing > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, available_cores() // sharing))
    return sharing
