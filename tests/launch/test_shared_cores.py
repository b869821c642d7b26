"""Ranks of one machine share its cores, those of another do not count."""

import os
import socket
from types import SimpleNamespace

import pytest
import torch

from launch import shared_cores
from launch.shared_cores import ranks_on_these_cores, share_cores

HERE, MINE = socket.gethostname(), os.sched_getaffinity(0)


def world_with(*others):
    return SimpleNamespace(gather=lambda value: [value, *others])


def test_ranks_share_cores_with_those_of_their_machine_that_may_run_on_them():
    assert ranks_on_these_cores(world_with()) == 1
    assert ranks_on_these_cores(world_with((HERE, MINE), (HERE, MINE))) == 3
    assert ranks_on_these_cores(world_with((f"not-{HERE}", MINE))) == 1
    assert ranks_on_these_cores(world_with((HERE, {1000, 1001}))) == 1  # SLURM gave every rank its own cores


@pytest.mark.parametrize(("others", "told", "threads"), [(3, None, 2), (15, None, 1), (3, "5", 7), (0, None, 7)])
def test_torch_gets_the_ranks_share_unless_the_user_says_how_many(monkeypatch, others, told, threads):
    monkeypatch.setattr(shared_cores, "available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    before = torch.get_num_threads()
    torch.set_num_threads(7)
    try:
        assert share_cores(world_with(*[(HERE, MINE)] * others)) == others + 1
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
