"""A method trained on W ranks and on one, at the same global batch: what both must agree in."""

import functools

import torch
from torch import distributed as dist
from torch import nn

from models.backbone import Backbone
from models.sharded_bank import gathered_rows
from pipelines.batch import ViewBatch

STEPS = 5


class Plain(Backbone):
    """A network without batch norm, so that ranks do not see each other's statistics."""

    def __init__(self, channels=6):
        super().__init__()
        self.out_dim = channels
        self.conv = nn.Conv3d(3, channels, 3, stride=2, padding=1)
        self.act = nn.ReLU()

    def parts(self):
        return self.conv, self.act


def clips_of(seed, *, samples=8, views=2, frames=4, side=8):
    """Views of random videos; views of a sample are alike."""
    rng = torch.Generator().manual_seed(seed)
    shape = (samples, 3, frames, side, side)
    base = torch.rand(shape, generator=rng, dtype=torch.float64)
    return tuple(0.7 * base + 0.3 * torch.rand(shape, generator=rng, dtype=torch.float64) for _ in range(views))


def part_of(batch, rank, world_size):
    """What one rank sees of a global batch."""
    size = len(batch.index) // world_size
    mine = slice(rank * size, (rank + 1) * size)
    targets = {name: value[mine] for name, value in batch.targets.items()}
    return ViewBatch(tuple(clips[mine] for clips in batch.clips), batch.index[mine], targets)


def steps(build, batch_of, *, rank=0, world_size=1, passes=1):
    """Mean losses and gradients of all ranks in each of five steps of SGD, and the state behind them.

    Args:
        build: the method, in float64 and with the same weights on each call.
        batch_of: seed to the global batch.
        rank: whose part of it is seen.
        world_size: W.
        passes: micro-batches that each rank's part is cut into.
    """
    method = build()
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    losses, gradients = [], []
    for seed in range(STEPS):
        optimizer.zero_grad()
        mean = torch.zeros((), dtype=torch.float64)
        for part in part_of(batch_of(seed), rank, world_size).split(passes):
            total = sum(method(part).losses.values()) / passes
            total.backward()
            mean += total.detach()
        for value in [mean, *(parameter.grad for parameter in parameters)]:
            if world_size > 1:
                dist.all_reduce(value)
            value /= world_size
        losses.append(mean)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
        optimizer.step()
        method.after_step()
    return torch.stack(losses), torch.stack(gradients), method.state_dict() | gathered_rows(method)


def _on_a_rank(world, build, batch_of):
    losses, gradients, state = steps(build, batch_of, rank=world.rank, world_size=world.world_size)
    # As lists: tensors would travel through shared memory, which a finished process takes with it.
    return losses.tolist(), gradients.tolist(), {name: value.tolist() for name, value in state.items()}


def assert_ranks_train_as_one(group, build, batch_of):
    """Losses, gradients and everything in the state dict, on every rank."""
    losses, gradients, state = steps(build, batch_of)
    assert losses.std() > 0
    assert (gradients.abs().sum(dim=1) > 0).all()
    near = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-11)
    for theirs_losses, theirs_gradients, theirs in group.run(_on_a_rank, build, batch_of):
        near(torch.tensor(theirs_losses, dtype=torch.float64), losses)
        near(torch.tensor(theirs_gradients, dtype=torch.float64), gradients)
        assert theirs.keys() == state.keys()
        for name, value in state.items():
            near(torch.tensor(theirs[name], dtype=value.dtype), value, msg=lambda text, name=name: f"{name}: {text}")
