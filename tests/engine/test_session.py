import numpy as np
import pytest
import torch

from engine.session import seed_dropout, use_channels_last
from models.backbones.r3d import R3D


def test_channels_last_gradients_lie_as_their_weights_do():
    # DDP copies every gradient whose strides differ from its bucket's, which are the weight's; 1x1x1 kernels did.
    network = R3D(width=8)
    use_channels_last(network)
    clips = torch.rand(4, 3, 8, 32, 32).contiguous(memory_format=torch.channels_last_3d)
    network.pooled(clips).sum().backward()
    assert {name for name, weight in network.named_parameters() if weight.stride() != weight.grad.stride()} == set()


def test_channels_last_changes_the_layout_and_no_value():
    plain, moved = (torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3), torch.nn.Conv2d(3, 4, 3)) for _ in range(2))
    moved.load_state_dict(plain.state_dict())
    use_channels_last(moved)
    assert moved[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), moved.parameters(), strict=True))


@pytest.mark.parametrize("other", [(2, 5, 0), (1, 6, 0), (1, 5, 1)])
def test_dropout_repeats_for_the_same_seed_step_and_rank_only(other):
    def drawn(place):
        seed_dropout(*place)
        return torch.rand(4)

    first = drawn((1, 5, 0))
    assert not torch.equal(first, drawn(other))
    assert torch.equal(first, drawn((1, 5, 0)))


def test_dropout_is_seeded_as_torch_seeds_it():
    seed_dropout(1, 5, 0)
    drawn = torch.rand(4)
    torch.manual_seed(int(np.random.SeedSequence([1, 5, 0]).generate_state(1, np.uint64)[0] >> np.uint64(1)))
    assert torch.equal(drawn, torch.rand(4))
