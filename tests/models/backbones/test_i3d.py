"""I3D against its release written out layer by layer, on generated weights and clips."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from models.backbones.i3d import I3D, SamePool, vtdl_key

BLOCKS = {
    "maxPool3d_3a": ((1, 3, 3), (1, 2, 2), ("3b", "3c")),
    "maxPool3d_4a": ((3, 3, 3), (2, 2, 2), ("4b", "4c", "4d", "4e", "4f")),
    "maxPool3d_5a": ((2, 2, 2), (2, 2, 2), ("5b", "5c")),
}


def padded(x, kernel, stride):
    """Zeros as TensorFlow's "same" asks for an even size: kernel - stride on an axis, the smaller half in front."""
    widths = []
    for k, s in zip(reversed(kernel), reversed(stride), strict=True):
        total = max(k - s, 0)
        widths += [total // 2, total - total // 2]
    return functional.pad(x, widths)


def unit(state, name, x, stride=1):
    weight = state[f"{name}.conv3d.weight"]
    x = functional.conv3d(padded(x, weight.shape[2:], (stride,) * 3), weight, stride=stride)
    norm = (state[f"{name}.batch3d.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(x, *norm).relu()


def pool(x, kernel, stride):
    return functional.max_pool3d(padded(x, kernel, stride), kernel, stride, ceil_mode=True)


def mixed(state, name, x):
    return torch.cat(
        [
            unit(state, f"{name}.branch_0", x),
            unit(state, f"{name}.branch_1.1", unit(state, f"{name}.branch_1.0", x)),
            unit(state, f"{name}.branch_2.1", unit(state, f"{name}.branch_2.0", x)),
            unit(state, f"{name}.branch_3.1", pool(x, (3, 3, 3), (1, 1, 1))),
        ],
        dim=1,
    )


def slow_i3d(state, x):
    x = pool(unit(state, "conv3d_1a_7x7", x, stride=2), (1, 3, 3), (1, 2, 2))
    x = unit(state, "conv3d_2c_3x3", unit(state, "conv3d_2b_1x1", x))
    for kernel, stride, blocks in BLOCKS.values():
        x = pool(x, kernel, stride)
        for block in blocks:
            x = mixed(state, f"mixed_{block}", x)
    return x


@pytest.mark.parametrize("size", [(2, 2, 2), (3, 17, 18), (7, 33, 47), (9, 31, 65), (16, 32, 32)])
def test_features_are_those_of_the_layers_under_their_published_names(size, random_norms):
    backbone = random_norms(I3D(width=8)).eval()
    clips = torch.randn(2, 3, *size)
    state = {vtdl_key(key): value for key, value in backbone.state_dict().items()}
    with torch.no_grad():
        expected = slow_i3d(state, clips)
        # The stem halves and rounds down, two pools in time and four in space halve and round up.
        factors = zip(size, (4, 16, 16), strict=True)
        assert expected.shape[2:] == tuple(-(-(side // 2) // factor) for side, factor in factors)
        torch.testing.assert_close(backbone(clips), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1, 1), (4, 6, 8), (5, 6, 8), (4, 7, 9)])
@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3)])
def test_pools_equal_padding_with_zeros_whatever_the_size(kernel, size):
    x = torch.rand(1, 2, *size)
    stride = tuple(min(k, 2) for k in kernel)
    assert torch.equal(SamePool(kernel, stride)(x), pool(x, kernel, stride))


def test_parameters_and_multiplications_are_the_published_ones():
    with torch.device("meta"):
        backbone, clips = I3D().eval(), torch.empty(1, 3, 16, 224, 224)
        with FlopCounterMode(display=False) as counter:
            backbone(clips)
    assert sum(p.numel() for p in backbone.parameters()) == 12_287_264
    assert counter.get_total_flops() / 2e9 == pytest.approx(27.8, abs=0.05)


def test_releases_draw_their_first_weights_so():
    torch.manual_seed(0)
    ours, vtdl, cstp = I3D(width=16), I3D(width=16, legacy_init="vtdl"), I3D(width=16, legacy_init="cstp")

    def scales(backbone):
        return torch.cat([m.weight for m in backbone.modules() if isinstance(m, nn.BatchNorm3d)])

    assert (scales(ours) == 1).all()
    assert scales(vtdl).std().item() == pytest.approx(0.02, rel=0.1)
    assert 0.4 < (scales(cstp) < 0).float().mean().item() < 0.6
    weight = vtdl.stages[0].conv_1a.conv.weight
    fans = weight[0].numel() + weight.shape[0] * weight[0, 0].numel()
    assert weight.abs().max().item() == pytest.approx((2 * 6 / fans) ** 0.5, rel=1e-2)
