"""C3D and the residual backbones beside slow, obvious versions of themselves."""

import doctest
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from models.backbones import c3d, r2plus1d_18, r3d, r3d_18, r21d, resnet3d
from models.backbones._residual import Conv2Plus1d
from models.backbones.c3d import C3D
from models.backbones.r2plus1d_18 import R2Plus1D18
from models.backbones.r3d import R3D
from models.backbones.r3d_18 import R3D18
from models.backbones.r21d import R21D
from models.backbones.resnet3d import PaddedShortcut, ResNet3D

MODULES = {c3d: C3D, r2plus1d_18: R2Plus1D18, r3d: R3D, r3d_18: R3D18, r21d: R21D, resnet3d: ResNet3D}
FC_400_CLASSES = 512 * 400 + 400


def count(backbone):
    return sum(p.numel() for p in backbone.parameters())


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (C3D, 27_661_440),
        (R3D, 14_361_792),
        (R21D, 14_365_303),
        (lambda: R21D(layers=(2, 2, 2, 2)), 33_178_423),
        (ResNet3D, 33_203_904),
        (R3D18, 33_371_472 - FC_400_CLASSES),
        (R2Plus1D18, 31_505_325 - FC_400_CLASSES),
    ],
)
def test_networks_have_the_published_number_of_parameters(make, parameters):
    with torch.device("meta"):
        assert count(make()) == parameters


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_layout_names_each_entry_once(module):
    keys = MODULES[module](width=4).state_dict()
    assert module.LAYOUTS
    for original in module.LAYOUTS.values():
        assert len({original(key) for key in keys}) == len(keys)
        assert all(original(key).rpartition(".")[2] == key.rpartition(".")[2] for key in keys)
    examples = doctest.testmod(module)
    assert examples.attempted
    assert not examples.failed


def torchvision_network(conv, stem):
    """torchvision's VideoResNet without its head, put together from plain layers under its names."""

    def block(inside, outside, stride):
        layers = nn.ModuleDict(
            {
                "conv1": nn.Sequential(conv(inside, outside, inside, stride), nn.BatchNorm3d(outside), nn.ReLU()),
                "conv2": nn.Sequential(conv(outside, outside, inside, 1), nn.BatchNorm3d(outside)),
            }
        )
        if stride != 1:
            shortcut = nn.Conv3d(inside, outside, 1, stride, bias=False)
            layers["downsample"] = nn.Sequential(shortcut, nn.BatchNorm3d(outside))
        return layers

    network = nn.ModuleDict({"stem": stem})
    for stage, (inside, outside) in enumerate([(8, 8), (8, 16), (16, 32), (32, 64)]):
        blocks = [block(inside, outside, 1 if stage == 0 else 2), block(outside, outside, 1)]
        network[f"layer{stage + 1}"] = nn.ModuleList(blocks)
    return network


def torchvision_features(network, clips):
    x = network["stem"](clips)
    for stage in (1, 2, 3, 4):
        for block in network[f"layer{stage}"]:
            shortcut = block["downsample"](x) if "downsample" in block else x
            x = functional.relu(block["conv2"](block["conv1"](x)) + shortcut)
    return x


def full(inside, outside, entering, stride):
    return nn.Conv3d(inside, outside, 3, stride, 1, bias=False)


def split(inside, outside, entering, stride):
    """A split convolution of a block that `entering` channels enter and as many as it gives leave."""
    leaving = outside
    middle = (entering * leaving * 3 * 3 * 3) // (entering * 3 * 3 + 3 * leaving)
    return nn.Sequential(
        nn.Conv3d(inside, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(),
        nn.Conv3d(middle, outside, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


FULL_STEM = [nn.Conv3d(3, 8, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), nn.BatchNorm3d(8), nn.ReLU()]
SPLIT_STEM = [
    nn.Conv3d(3, 5, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
    nn.BatchNorm3d(5),
    nn.ReLU(),
    nn.Conv3d(5, 8, (3, 1, 1), 1, (1, 0, 0), bias=False),
    nn.BatchNorm3d(8),
    nn.ReLU(),
]


@pytest.mark.parametrize(
    ("module", "conv", "stem"), [(r3d_18, full, FULL_STEM), (r2plus1d_18, split, SPLIT_STEM)], ids=["r3d", "r2plus1d"]
)
def test_torchvision_weights_give_the_features_of_plain_layers(module, conv, stem):
    theirs = torchvision_network(conv, nn.Sequential(*stem))
    ours = MODULES[module](width=8)
    values = theirs.state_dict()
    named = {key: module.LAYOUTS["torchvision"](key) for key in ours.state_dict()}
    assert set(named.values()) == set(values)
    ours.load_state_dict({key: values[name] for key, name in named.items()})
    clips = torch.rand(2, 3, 5, 19, 23)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips), torchvision_features(theirs, clips))


def test_r3d_with_two_blocks_a_stage_is_torchvisions():
    ours, theirs = R3D(layers=(2, 2, 2, 2), width=4), R3D18(width=4)
    ours.load_state_dict(theirs.state_dict())
    clips = torch.rand(2, 3, 4, 16, 16)
    with torch.no_grad():
        assert torch.equal(ours(clips), theirs(clips))


def test_split_convolutions_have_the_channels_of_the_paper_between():
    middles = [part.norm.num_features for part in R21D().modules() if isinstance(part, Conv2Plus1d)]
    assert middles == [83, 144, 144, 230, 288, 42, 460, 576, 85, 921, 1152, 170]


@pytest.mark.parametrize("size", [(4, 6, 8), (5, 7, 1)])
def test_shortcut_without_parameters_is_haras(size):
    x = torch.randn(2, 3, *size)
    halved = functional.avg_pool3d(x, kernel_size=1, stride=2)
    expected = torch.cat([halved, torch.zeros(2, 5, *halved.shape[2:])], dim=1)
    assert torch.equal(PaddedShortcut(5, stride=2)(x), expected)
    backbone = ResNet3D(width=2, shortcut="A")
    assert not [key for key in backbone.state_dict() if "shortcut" in key]
    backbone(torch.rand(2, 3, *(8 * s for s in size))).mean().backward()
    assert all(p.grad is not None for p in backbone.parameters())


@pytest.mark.parametrize("size", [(7, 16, 16), (8, 15, 16), (8, 16, 15)])
def test_c3d_cannot_take_less_than_it_asks_for(size):
    backbone = C3D(width=2)
    assert backbone(torch.rand(2, 3, 8, 16, 16)).shape == (2, 16, 1, 1, 1)
    with pytest.raises(RuntimeError, match="size"):
        nn.Sequential(*backbone.parts())(torch.rand(2, 3, *size))


@pytest.mark.parametrize("kind", [R3D, R21D, ResNet3D, R3D18, R2Plus1D18])
def test_residual_networks_train_on_two_single_pixels(kind):
    backbone = kind(width=2)
    backbone(torch.rand(2, 3, 1, 1, 1)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@pytest.mark.parametrize("kind", [C3D, R21D, ResNet3D])
def test_first_weights_of_cstp_are_uniform_around_zero_in_norms_too(kind):
    torch.manual_seed(0)
    backbone = kind(width=16, legacy_init="cstp")
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm3d):
            bound = math.sqrt(6 / (2 * (layer.num_features // 2)))
        elif isinstance(layer, nn.Conv3d):
            area = math.prod(layer.kernel_size)
            bound = math.sqrt(6 / (area * (layer.in_channels + layer.out_channels)))
        else:
            continue
        assert layer.weight.abs().max() <= bound
        assert layer.weight.min() < -0.5 * bound
        assert layer.weight.max() > 0.5 * bound


@pytest.mark.parametrize("kind", [R21D, ResNet3D])
def test_first_weights_of_vtdl_have_norms_around_one(kind):
    torch.manual_seed(0)
    backbone = kind(width=16, legacy_init="vtdl")
    scales = torch.cat([n.weight for n in backbone.modules() if isinstance(n, nn.BatchNorm3d)]).detach()
    assert float(scales.mean()) == pytest.approx(1, abs=0.005)
    assert float(scales.std()) == pytest.approx(0.02, rel=0.2)
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv3d):
            bound = math.sqrt(12 / (math.prod(layer.kernel_size) * (layer.in_channels + layer.out_channels)))
            assert 0.8 * bound < layer.weight.abs().max() <= bound


@pytest.mark.parametrize("kind", [R3D, R21D, ResNet3D, R3D18, R2Plus1D18, C3D])
def test_norms_start_at_one_unless_asked_otherwise(kind):
    norms = [n for n in kind(width=2).modules() if isinstance(n, nn.BatchNorm3d)]
    assert norms
    assert all(torch.all(n.weight == 1) and torch.all(n.bias == 0) for n in norms)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (C3D, {"width": 0}),
        (C3D, {"legacy_init": "vtdl"}),
        (R21D, {"legacy_init": "iic"}),
        (R3D, {"layers": (1, 1, 1)}),
        (R2Plus1D18, {"layers": (1, 0, 1, 1)}),
        (R3D18, {"width": 0}),
        (ResNet3D, {"shortcut": "C"}),
    ],
)
def test_wrong_settings_are_refused(kind, settings):
    with pytest.raises(ValueError, match=r"width|legacy_init|stages|shortcut"):
        kind(**({"width": 2} | settings))
