"""R2D3D against its releases written out layer by layer, what its two depths see of a clip, and how large they are."""

import pytest
import torch
from torch.nn import functional

from models.backbones.r2d3d import R2D3D, dualvar_key


def normed(state, x, conv, norm, stride=(1, 1, 1)):
    weight = state[f"{conv}.weight"]
    x = functional.conv3d(x, weight, stride=stride, padding=[k // 2 for k in weight.shape[2:]])
    return functional.batch_norm(
        x, *(state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    )


def slow_block(state, place, x, *, halves, has_relu):
    """A block of two or three convolutions, as the state holds; the first of two, the second of three halves."""
    count = sum(f"{place}.conv{n}.weight" in state for n in (1, 2, 3))
    stride = (1, 2, 2) if halves else (1, 1, 1)
    out = x
    for n in range(1, count + 1):
        out = normed(state, out, f"{place}.conv{n}", f"{place}.bn{n}", stride if n == count - 1 else (1, 1, 1))
        out = out.relu() if n < count else out
    if f"{place}.downsample.0.weight" in state:
        x = normed(state, x, f"{place}.downsample.0", f"{place}.downsample.1", stride)
    return (out + x).relu() if has_relu else out + x


def slow_r2d3d(state, x, *, blocks, stem_stride, has_last_relu):
    x = normed(state, x, "conv1", "bn1", stem_stride).relu()
    x = functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    places = [(stage, block) for stage, count in enumerate(blocks, start=1) for block in range(count)]
    for stage, block in places:
        has_relu = has_last_relu or (stage, block) != places[-1]
        x = slow_block(state, f"layer{stage}.{block}", x, halves=stage > 1 and block == 0, has_relu=has_relu)
    return x


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 33, 50)])
@pytest.mark.parametrize(
    ("depth", "published"),
    [
        (18, {"blocks": (2, 2, 2, 2), "stem_stride": (1, 2, 2), "has_last_relu": False}),
        (50, {"blocks": (3, 4, 6, 3), "stem_stride": (2, 2, 2), "has_last_relu": True}),
    ],
)
def test_features_are_those_of_the_layers_under_their_published_names(depth, published, size, random_norms):
    backbone = random_norms(R2D3D(depth=depth, width=4)).eval()
    state = {dualvar_key(key): value for key, value in backbone.state_dict().items()}
    clips = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(backbone(clips), slow_r2d3d(state, clips, **published), rtol=1e-5, atol=1e-5)


def test_depth_18_looks_at_single_frames(random_norms):
    backbone = random_norms(R2D3D(width=4)).eval()
    clips = torch.randn(2, 3, 5, 40, 33)
    with torch.no_grad():
        whole = backbone(clips)
        frames = torch.cat([backbone(clips[:, :, t : t + 1]) for t in range(5)], dim=2)
    assert whole.shape == (2, 16, 5, 2, 2)
    torch.testing.assert_close(whole, frames)


def test_depth_50_looks_over_time(random_norms):
    backbone = random_norms(R2D3D(depth=50, width=4)).eval()
    clips = torch.randn(1, 3, 32, 32, 32)
    changed = clips.clone()
    changed[:, :, 16] += 1.0
    with torch.no_grad():
        reached = (backbone(clips) - backbone(changed)).abs().amax(dim=(0, 1, 3, 4)) > 1e-7
    # The stem spreads frame 16 to places 7 to 9 of 16, each of the nine blocks over time by one place more.
    assert reached.tolist() == [True] * 16
    shallow = backbone.stem(changed) - backbone.stem(clips)
    assert (shallow.abs().amax(dim=(0, 1, 3, 4)) > 0).nonzero().flatten().tolist() == [7, 8, 9]


def test_only_the_deep_feature_map_has_passed_a_last_relu():
    torch.manual_seed(0)
    clips = torch.randn(2, 3, 4, 32, 32)
    assert R2D3D(width=4)(clips).min() < 0
    assert R2D3D(depth=50, width=4)(clips).min() == 0


@pytest.mark.parametrize(("depth", "parameters", "out_dim"), [(18, 5_210_176, 256), (50, 31_672_128, 2048)])
def test_parameters_are_as_many_as_published(depth, parameters, out_dim):
    with torch.device("meta"):
        backbone = R2D3D(depth=depth)
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    assert backbone.out_dim == out_dim


def test_other_depths_do_not_exist():
    with pytest.raises(ValueError, match="depth 18 or 50"):
        R2D3D(depth=34)
