"""Promises of every backbone, over the files found in `models/backbones`."""

import copy
import importlib
import inspect
import pkgutil

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

import models.backbones
from data_process.errors import InputError
from models.backbone import Backbone
from tests.engine.ranks import Ranks


def kinds():
    for module in pkgutil.iter_modules(models.backbones.__path__):
        if module.name.startswith("_"):
            continue
        found = importlib.import_module(f"models.backbones.{module.name}")
        for value in vars(found).values():
            if inspect.isclass(value) and issubclass(value, Backbone) and value.__module__ == found.__name__:
                yield value


every_backbone = pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)


def made(kind, seed=0):
    torch.manual_seed(seed)
    return kind(width=4)


def drawn_clips(count=2, seed=0):
    return torch.rand(count, 3, 8, 32, 32, generator=torch.Generator().manual_seed(seed))


@every_backbone
def test_feature_map_has_the_promised_channels_and_gradient_reaches_all(kind):
    backbone = kind(width=4)
    clips = torch.rand(2, 3, 8, 32, 32)
    feature_map = backbone(clips)
    assert feature_map.shape[:2] == (2, backbone.out_dim)
    feature_map.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


@every_backbone
def test_channels_last_gives_the_same_features(kind):
    backbone, clips = made(kind).eval(), drawn_clips()
    with torch.no_grad():
        plain = backbone.pooled(clips)
        last = backbone.to(memory_format=torch.channels_last_3d).pooled(
            clips.contiguous(memory_format=torch.channels_last_3d)
        )
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


def gradients(backbone, clips):
    """Of a training step, one vector in double precision: batch norm over few values makes float32 meaningless."""
    backbone.zero_grad()
    backbone(clips.double()).square().mean().backward()
    return torch.cat([parameter.grad.flatten() for parameter in backbone.parameters()])


def assert_same_gradients(one, other):
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9 * other.abs().max().item())


@every_backbone
def test_channels_last_gives_the_same_gradients(kind):
    backbone, clips = made(kind).double(), drawn_clips()
    plain = gradients(backbone, clips)
    last = backbone.to(memory_format=torch.channels_last_3d)
    assert_same_gradients(gradients(last, clips.contiguous(memory_format=torch.channels_last_3d)), plain)


# torch.backends.mkldnn.flags sets a switch for Intel's GPUs too, which says that there is none.
@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
@every_backbone
def test_bfloat16_agrees_to_three_hundredths_and_its_gradient_to_a_quarter(kind):
    # In eval mode: where batch norm divides by the deviation of a handful of values it enlarges any rounding.
    # Without oneDNN: its gradients of 3-D kernels are uninitialised memory for some shapes in bfloat16 (torch 2.13).
    backbone, clips = made(kind).eval(), drawn_clips()
    features, gradient = {}, {}
    with torch.backends.mkldnn.flags(enabled=False):
        for rough in (False, True):
            backbone.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=rough):
                features[rough] = backbone.pooled(clips).float()
            features[rough].square().mean().backward()
            gradient[rough] = torch.cat([parameter.grad.flatten() for parameter in backbone.parameters()])
    assert (features[True] - features[False]).norm() < 0.03 * features[False].norm()
    assert (gradient[True] - gradient[False]).norm() < 0.25 * gradient[False].norm()


@pytest.fixture(scope="module")
def two_ranks():
    ranks = Ranks(2)
    yield ranks
    ranks.stop()


def _wrapped_gradients(world, kind, recompute):
    backbone = made(kind, seed=world.rank).double()  # DDP spreads the weights of rank 0
    backbone.recompute = recompute
    wrapped = DistributedDataParallel(backbone, gradient_as_bucket_view=True)
    clips = drawn_clips(4)[2 * world.rank : 2 * world.rank + 2]
    # The second step fails where a parameter of the first had no part in the loss.
    return [gradients(wrapped, clips).numpy() for _ in range(2)][-1]


@pytest.mark.parametrize("recompute", [False, True])
@every_backbone
def test_wrapped_by_ddp_ranks_get_the_mean_of_their_gradients(kind, recompute, two_ranks):
    first, second = two_ranks.run(_wrapped_gradients, kind, recompute)
    alone, clips = made(kind).double(), drawn_clips(4)
    mean = (gradients(alone, clips[:2]) + gradients(alone, clips[2:])) / 2
    for rank in (first, second):
        assert_same_gradients(torch.from_numpy(rank), mean)


@every_backbone
def test_recomputation_changes_neither_gradients_nor_statistics(kind):
    torch.manual_seed(0)
    kept = kind(width=4)
    recomputed = copy.deepcopy(kept)
    recomputed.recompute = True
    clips = torch.rand(2, 3, 8, 32, 32)
    for backbone in (kept, recomputed):
        backbone(clips).square().mean().backward()
    for one, other in zip(kept.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)
    for (name, one), other in zip(kept.state_dict().items(), recomputed.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, msg=name)


@every_backbone
def test_clips_that_do_not_fit_are_refused_by_name(kind):
    backbone = kind(width=4)
    with pytest.raises(InputError, match=rf"{kind.__name__} takes clips \(B, 3, T, H, W\), got \(2, 2, 8, 32, 32\)"):
        backbone(torch.zeros(2, 2, 8, 32, 32))
    frames, size = backbone.min_frames, backbone.min_size
    backbone.eval()(torch.zeros(1, 3, frames, size, size))
    with pytest.raises(InputError, match=f"{kind.__name__} needs clips of at least {frames} frames"):
        backbone(torch.zeros(1, 3, frames, size, size - 1))


def test_deeper_r3d_has_as_many_blocks_as_asked():
    from models.backbones.r3d import R3D

    assert [len(stage) for stage in R3D(layers=(2, 1, 3, 1), width=2).stages] == [2, 1, 3, 1]
