"""Promises of every backbone, over the files found in `models/backbones`."""

import copy
import importlib
import inspect
import pkgutil

import pytest
import torch

import models.backbones
from data_process.errors import InputError
from models.backbone import Backbone


def kinds():
    for module in pkgutil.iter_modules(models.backbones.__path__):
        if module.name.startswith("_"):
            continue
        found = importlib.import_module(f"models.backbones.{module.name}")
        for value in vars(found).values():
            if inspect.isclass(value) and issubclass(value, Backbone) and value.__module__ == found.__name__:
                yield value


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_feature_map_has_the_promised_channels_and_gradient_reaches_all(kind):
    backbone = kind(width=4)
    clips = torch.rand(2, 3, 8, 32, 32)
    feature_map = backbone(clips)
    assert feature_map.shape[:2] == (2, backbone.out_dim)
    feature_map.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_channels_last_gives_the_same_features(kind):
    backbone = kind(width=4).eval()
    clips = torch.rand(2, 3, 8, 32, 32)
    with torch.no_grad():
        plain = backbone.pooled(clips)
        last = backbone.to(memory_format=torch.channels_last_3d).pooled(
            clips.contiguous(memory_format=torch.channels_last_3d)
        )
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
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


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
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
