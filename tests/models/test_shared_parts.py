"""Gathering, queue, momentum network and shuffling over ranks, against what they should give in one process."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from data_process.errors import InputError
from models.gather import gather_rows, gather_with_gradient, gather_with_own_gradient, own_rows
from models.momentum import MomentumNetwork, RisingMomentum
from models.queue import FeatureQueue
from models.shuffle import Shuffling, shuffled
from tests.engine.ranks import Ranks


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request):
    group = Ranks(request.param)
    yield group, request.param
    group.stop()


def features(count, dim=6, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def contrast(rows, columns, first=0):
    """Cross-entropy of each row against all columns; its own is the positive."""
    logits = functional.normalize(rows, dim=1) @ functional.normalize(columns, dim=1).T / 0.1
    return functional.cross_entropy(logits, torch.arange(first, first + len(rows)))


def _contrast_on_a_rank(world):
    everything = features(8)
    size = 8 // world.world_size
    mine = everything[world.rank * size : (world.rank + 1) * size].clone().requires_grad_()
    weight = torch.eye(6, dtype=torch.float64, requires_grad=True)
    rows = mine @ weight
    gathered = gather_with_gradient(rows)
    place = own_rows(gathered)
    assert torch.equal(gathered[place], rows)
    assert torch.equal(gathered.detach(), gather_rows(rows))
    loss = contrast(rows, gathered, place.start)
    loss.backward()
    return loss.item(), weight.grad.tolist()


def test_the_mean_gradient_of_all_ranks_is_that_of_the_global_batch(ranks):
    group, count = ranks
    results = group.run(_contrast_on_a_rank)
    weight = torch.eye(6, dtype=torch.float64, requires_grad=True)
    rows = features(8) @ weight
    loss = contrast(rows, rows)
    loss.backward()
    assert sum(value for value, _ in results) / count == pytest.approx(loss.item(), rel=1e-12)
    mean = torch.tensor([gradient for _, gradient in results], dtype=torch.float64).mean(dim=0)
    torch.testing.assert_close(mean, weight.grad, rtol=1e-10, atol=1e-13)


def _own_contrast_on_a_rank(world):
    everything = features(8)
    size = 8 // world.world_size
    mine = everything[world.rank * size : (world.rank + 1) * size].clone().requires_grad_()
    gathered = gather_with_own_gradient(mine)
    place = own_rows(gathered)
    contrast(gathered[place], gathered, place.start).backward()
    return mine.grad.tolist()


def test_the_gather_of_the_releases_gives_the_gradient_of_the_own_loss_alone(ranks):
    group, count = ranks
    size = 8 // count
    for rank, gradient in enumerate(group.run(_own_contrast_on_a_rank)):
        own = slice(rank * size, (rank + 1) * size)
        everything = features(8).requires_grad_()
        contrast(everything[own], everything, own.start).backward()
        expected = everything.grad[own]
        torch.testing.assert_close(torch.tensor(gradient, dtype=torch.float64), expected, rtol=1e-10, atol=1e-13)


def queue(rows=7, **settings):
    return FeatureQueue(rows, 6, generator=torch.Generator().manual_seed(3), **settings)


def _push_on_a_rank(world):
    mine = queue()
    size = 4 // world.world_size
    for step in range(4):
        batch = features(4, seed=step).float()
        mine.push(batch[world.rank * size : (world.rank + 1) * size])
    return {name: value.tolist() for name, value in mine.state_dict().items()}


def test_queues_of_all_ranks_hold_what_one_process_would(ranks):
    group, _ = ranks
    alone = queue()
    expected = alone.rows.clone()
    for step in range(4):
        batch = features(4, seed=step).float()
        assert alone.push(batch).tolist() == [(4 * step + place) % 7 for place in range(4)]
        for place, row in enumerate(batch):
            expected[(4 * step + place) % 7] = row
    assert torch.equal(alone.rows, expected)
    assert (int(alone.pointer), int(alone.num_pushed)) == (16 % 7, 16)
    for state in group.run(_push_on_a_rank):
        assert state == {name: value.tolist() for name, value in alone.state_dict().items()}


def test_first_rows_are_as_the_releases_draw_them_and_snapshots_stay():
    assert torch.allclose(queue(500).rows.norm(dim=1), torch.ones(500))
    loose = queue(5000, unit_rows=False).rows
    assert loose.abs().max() <= 0.5**0.5
    assert loose.square().sum(dim=1).mean().item() == pytest.approx(1.0, abs=0.02)
    mine = queue()
    before = mine.snapshot()
    mine.push(features(3).float())
    assert not torch.equal(mine.rows, before)
    with pytest.raises(InputError, match="8 features of a global batch do not fit a queue of 7 rows"):
        mine.push(features(8))


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def test_a_momentum_network_follows_parameters_and_keeps_its_own_statistics():
    online = network()
    target = MomentumNetwork(online, momentum=0.9)
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert target.distance(online) == 0
    with torch.no_grad():
        for parameter in online.parameters():
            parameter += 1.0
    before = [parameter.clone() for parameter in target.network.parameters()]
    statistics = target.network[1].running_mean.clone()
    target.follow(online)
    for old, new, goal in zip(before, target.network.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * goal)
    assert torch.equal(target.network[1].running_mean, statistics)
    output = target(features(4).float())
    assert not output.requires_grad
    assert not torch.equal(target.network[1].running_mean, statistics), "in training its batch norms see its batches"
    target.follow(online, momentum=0.0)
    assert target.distance(online).item() == pytest.approx(0.0, abs=1e-7)
    with pytest.raises(ValueError, match="momentum"):
        MomentumNetwork(online, momentum=1.5)


def test_a_rising_momentum_is_half_a_cosine_and_goes_on_where_it_was():
    rising = RisingMomentum(0.9, num_steps=10)
    values = [rising.take().item() for _ in range(12)]
    expected = [1 - 0.1 * (math.cos(math.pi * min(k, 10) / 10) + 1) / 2 for k in range(12)]
    assert values == pytest.approx(expected, rel=1e-14)
    assert values[0] == pytest.approx(0.9)
    assert values[10] == values[11] == 1.0
    before, after = RisingMomentum(0.9, num_steps=10), RisingMomentum(0.9, num_steps=10)
    cut = [before.take().item() for _ in range(4)]
    after.load_state_dict(before.state_dict())
    assert after.value().item() == after.value().item() == values[4], "only taking counts"
    assert cut + [after.take().item() for _ in range(8)] == values


def test_a_momentum_cannot_rise_over_a_run_of_unknown_length():
    with pytest.raises(InputError, match="got 0 steps"):
        RisingMomentum(0.9, num_steps=0).take()


def _shuffle_on_a_rank(world):
    everything = features(12)
    size = 12 // world.world_size
    seen = []

    def watch(clips):
        seen.append(clips.clone())
        return clips * 2

    output = shuffled(
        watch,
        everything[world.rank * size : (world.rank + 1) * size],
        generator=torch.Generator().manual_seed(9),
    )
    return output.tolist(), seen[0].tolist()


def test_shuffling_gives_each_sample_its_own_output_from_among_others(ranks):
    group, count = ranks
    everything = features(12)
    results = group.run(_shuffle_on_a_rank)
    outputs = torch.tensor([row for output, _ in results for row in output], dtype=torch.float64)
    assert torch.equal(outputs, everything * 2)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(9))
    worked = torch.tensor([row for _, seen in results for row in seen], dtype=torch.float64)
    assert torch.equal(worked, everything[order]), "rank r works on its part of the permutation"
    assert any(int(order[p]) // (12 // count) != p // (12 // count) for p in range(12))


def test_in_one_process_nothing_is_moved():
    clips = features(5)
    assert torch.equal(shuffled(lambda x: x, clips, generator=torch.Generator().manual_seed(0)), clips)


def test_every_call_shuffles_anew_and_a_resumed_count_goes_on():
    def orders(shuffling, calls):
        with pytest.MonkeyPatch.context() as patch:
            drawn = []
            patch.setattr("models.shuffle.torch.randperm", lambda n, generator: drawn.append(generator.initial_seed()))
            for _ in range(calls):
                shuffling(lambda clips: clips, torch.zeros(2, 1))
            return drawn

    first = Shuffling(3)
    whole = orders(first, 4)
    assert len(set(whole)) == 4
    assert orders(Shuffling(4), 4) != whole
    second = Shuffling(3)
    orders(second, 2)
    resumed = Shuffling(3)
    resumed.load_state_dict(second.state_dict())
    assert orders(resumed, 2) == whole[2:]
