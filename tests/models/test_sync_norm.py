"""Batch norms over ranks against one process that has the whole batch."""

import copy

import pytest
import torch
from torch import nn

from models.sync_norm import GatheredBatchNorm, synchronise_norms
from tests.engine.ranks import Ranks


@pytest.fixture(scope="module")
def ranks():
    group = Ranks(2)
    yield group
    group.stop()


def network():
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.Conv3d(4, 5, 1),
        nn.BatchNorm3d(5, momentum=None),
    ).double()
    nn.init.uniform_(module[1].weight, 0.5, 2.0)
    return module


def clips(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(6, 3, 4, 5, 5, generator=generator, dtype=torch.float64) * 2 + 1


def loss_of(output, first, total):
    weights = torch.arange(1, total + 1, dtype=torch.float64)[first : first + len(output)]
    return (output.square().tanh().flatten(1).mean(dim=1) * weights).sum()


def steps(module, parts):
    """Gradients, outputs and statistics after two steps; `parts` gives the slice of each batch."""
    outputs = []
    for step in range(2):
        module.zero_grad()
        mine = clips(step)[parts]
        output = module(mine)
        outputs.append(output.detach())
        loss_of(output, parts.start, 6).backward()
    return outputs, [p.grad for p in module.parameters()], module.state_dict()


def _on_a_rank(world, cut):
    module = synchronise_norms(network())
    parts = slice(0, cut) if world.rank == 0 else slice(cut, 6)
    outputs, gradients, state = steps(module, parts)
    return outputs, gradients, state


@pytest.mark.parametrize("cut", [3, 2, 5], ids=["equal parts", "unequal", "very unequal"])
def test_ranks_normalise_as_one_process_does(ranks, cut):
    parts = ranks.run(_on_a_rank, cut)
    outputs, gradients, state = steps(network(), slice(0, 6))
    for step in range(2):
        together = torch.cat([part[0][step] for part in parts])
        torch.testing.assert_close(together, outputs[step], rtol=1e-10, atol=1e-12)
    for ours, alone in zip(zip(*(part[1] for part in parts), strict=True), gradients, strict=True):
        torch.testing.assert_close(sum(ours), alone, rtol=1e-9, atol=1e-12)
    for _, _, theirs in parts:
        assert theirs.keys() == state.keys()
        for name, value in state.items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-10, atol=1e-12, msg=name)


def test_names_parameters_and_mode_stay():
    module = network()
    module[1].eval()
    state, weight = copy.deepcopy(module.state_dict()), module[1].weight
    changed = synchronise_norms(module)
    assert isinstance(changed[1], GatheredBatchNorm)
    assert changed[1].weight is weight
    assert not changed[1].training
    assert changed[4].training
    assert changed.state_dict().keys() == state.keys()
    assert isinstance(synchronise_norms(nn.BatchNorm1d(3)), GatheredBatchNorm)


def test_in_one_process_it_is_the_plain_norm():
    plain, gathered = network(), synchronise_norms(network())
    assert torch.equal(plain(clips(0)), gathered(clips(0)))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, gathered.state_dict()[name])


def _half_on_a_rank(world):
    norm = synchronise_norms(nn.BatchNorm3d(3))
    return norm(clips(world.rank).bfloat16()).dtype, norm.running_mean.dtype


def test_half_precision_comes_out_as_it_went_in(ranks):
    assert ranks.run(_half_on_a_rank) == [(torch.bfloat16, torch.float32)] * 2
