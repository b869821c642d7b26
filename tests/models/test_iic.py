import os
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed as dist
from torch import nn

from models.backbone import Backbone
from models.backbones.r3d import R3D
from models.losses.cross_view_nce import bank_logits, binary_nce, softmax_nce
from models.memory_bank import MemoryBank
from models.method import DatasetFacts
from models.methods.iic import IIC
from models.planners.single_clip import ClipDraw, swapped_chunks
from pipelines.batch import ViewBatch


@pytest.mark.parametrize(("batch", "columns", "dim"), [(1, 2, 3), (3, 7, 5), (4, 33, 16)])
def test_losses_equal_a_slow_version(batch, columns, dim):
    rng = torch.Generator().manual_seed(batch)
    features = torch.randn(batch, dim, generator=rng, dtype=torch.float64)
    rows = torch.randn(batch, columns, dim, generator=rng, dtype=torch.float64)
    logits = bank_logits(features, rows, 0.5)
    softmax, nce = 0.0, 0.0
    for b in range(batch):
        scores = [float(rows[b, c] @ features[b]) / 0.5 for c in range(columns)]
        softmax -= np.log(np.exp(scores[0]) / np.sum(np.exp(scores))) / batch
        noise, p = (columns - 1) / 11, np.exp(scores) / 50.0
        nce -= np.log(p[0] / (p[0] + noise + 1e-7)) / batch
        nce -= sum(np.log(noise / (q + noise + 1e-7)) for q in p[1:]) / batch
    assert softmax_nce(logits).item() == pytest.approx(softmax, rel=1e-12)
    assert binary_nce(logits.exp() / 50.0, 11).item() == pytest.approx(nce, rel=1e-12)


def test_the_loss_falls_when_the_positive_moves_closer():
    rows = torch.eye(4).expand(1, 4, 4)
    far, near = torch.tensor([[0.1, 0.0, 0.0, 0.9]]), torch.tensor([[0.9, 0.0, 0.0, 0.1]])
    assert softmax_nce(bank_logits(near, rows, 0.1)) < softmax_nce(bank_logits(far, rows, 0.1))


def test_of_a_row_named_twice_the_first_counts():
    bank = MemoryBank(5, 3, momentum=0.5, generator=torch.Generator().manual_seed(0))
    before = bank.rows.clone()
    features = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    bank.update(torch.tensor([3, 1, 3]), features)
    for row, feature in ((3, features[0]), (1, features[1])):
        mixed = 0.5 * before[row] + 0.5 * feature
        torch.testing.assert_close(bank.rows[row], mixed / mixed.norm())
    assert torch.equal(bank.rows[[0, 2, 4]], before[[0, 2, 4]])


def test_swapped_chunks_are_all_six_swaps_alike():
    rng = np.random.default_rng(0)
    drawn = [tuple(swapped_chunks(rng)) for _ in range(1200)]
    counts = {order: drawn.count(order) for order in set(drawn)}
    assert len(counts) == 6
    assert all(sum(a != b for a, b in zip(order, range(4), strict=True)) == 2 for order in counts)
    assert min(counts.values()) > 150  # 200 expected, standard deviation 13


def make_batch(size=3, frames=8, side=32, seed=0, num_rows=9, negatives=5, intra="repeat"):
    rng = torch.Generator().manual_seed(seed)
    targets = {"negatives": torch.randint(0, num_rows, (size, negatives), generator=rng)}
    if intra == "repeat":
        targets["intra_frame"] = torch.randint(0, frames, (size,), generator=rng)
    elif intra == "shuffle":
        targets["intra_order"] = torch.tensor([[1, 0, 2, 3]]).expand(size, -1)
    clips = torch.rand(size, 3, frames, side, side, generator=rng)
    return ViewBatch((clips,), torch.arange(size), targets)


@pytest.mark.parametrize("intra", ["repeat", "shuffle", "none"])
@pytest.mark.parametrize("second_view", ["residual", "rgb"])
def test_gradient_reaches_every_parameter_and_batches_of_one_work(intra, second_view):
    method = IIC(
        DatasetFacts(9),
        R3D(width=4),
        clip=ClipDraw(num_frames=8, size=32),
        intra_negative=intra,
        second_view=second_view,
        num_negatives=5,
    )
    for size in (1, 3):
        output = method(make_batch(size, intra=intra))
        sum(output.losses.values()).backward()
        method.after_step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    planned = method.planner()
    assert set(make_batch(intra=intra).targets) == {"negatives"} | (
        {"intra_frame"} if intra == "repeat" else {"intra_order"} if intra == "shuffle" else set()
    )
    assert planned.num_rows == 9


@pytest.mark.parametrize("component", ["flow-u", "flow-v"])
def test_the_second_view_may_be_stored_flow(component):
    torch.manual_seed(0)
    method = IIC(
        DatasetFacts(9), R3D(width=4), clip=ClipDraw(num_frames=8, size=32), num_negatives=5, second_view=component
    )
    assert method.clip_format.of_flow.modality == component
    batch = make_batch()
    flow, rows = torch.rand_like(batch.clips[0]), method.banks["view2"].rows[batch.index]
    losses = method(replace(batch, clips=(batch.clips[0], flow))).losses
    method.after_step()
    mixed = 0.5 * rows + 0.5 * method.backbone.pooled(flow).detach()
    stored = method.banks["view2"].rows[batch.index]
    torch.testing.assert_close(stored, torch.nn.functional.normalize(mixed, dim=1), rtol=1e-4, atol=1e-5)
    other = method(replace(batch, clips=(batch.clips[0], 1 - flow))).losses
    assert other["view2"] != losses["view2"]


def test_bfloat16_stays_near_float32():
    method = IIC(DatasetFacts(9), R3D(width=4), clip=ClipDraw(num_frames=8, size=32), num_negatives=5)
    exact = method(make_batch()).losses
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = method(make_batch()).losses
    for name in exact:
        assert rough[name].dtype == torch.float32
        assert rough[name].item() == pytest.approx(exact[name].item(), rel=0.1)


class Plain(Backbone):
    """A network without batch norm, so that ranks do not see each other's statistics."""

    def __init__(self):
        super().__init__()
        self.out_dim = 6
        self.conv = nn.Conv3d(3, 6, 3, stride=2, padding=1)

    def parts(self):
        return self.conv, nn.ReLU()


def _method():
    torch.manual_seed(0)
    method = IIC(DatasetFacts(9), Plain(), clip=ClipDraw(num_frames=4, size=8), num_negatives=5, softmax=False)
    return method.double()


def _part(batch, rank, world_size):
    size = len(batch) // world_size
    mine = slice(rank * size, (rank + 1) * size)
    targets = {name: value[mine] for name, value in batch.targets.items()}
    return ViewBatch((batch.clips[0][mine].double(),), batch.index[mine], targets)


def _two_steps(rank, world_size):
    method, gradients = _method(), []
    for seed in (1, 2):
        batch = _part(make_batch(4, frames=4, side=8, seed=seed), rank, world_size)
        method.zero_grad()
        sum(method(batch).losses.values()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in method.parameters()]))
        method.after_step()
    return gradients, method.state_dict()


def _rank(rank, world_size, port, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    gradients, state = _two_steps(rank, world_size)
    for gradient in gradients:
        dist.all_reduce(gradient)
    torch.save((gradients, state), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_give_the_banks_and_gradients_of_one(tmp_path):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_rank, args=(2, port, str(tmp_path)), nprocs=2)
    alone_gradients, alone = _two_steps(0, 1)
    for rank in range(2):
        gradients, state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for two, one in zip(gradients, alone_gradients, strict=True):
            torch.testing.assert_close(two / 2, one, rtol=1e-9, atol=1e-12)
        for key in alone:
            torch.testing.assert_close(state[key], alone[key], rtol=1e-9, atol=1e-12)


def test_a_bank_without_negatives_is_refused():
    with pytest.raises(ValueError, match="num_negatives"):
        IIC(DatasetFacts(8), R3D(width=2), num_negatives=0)
