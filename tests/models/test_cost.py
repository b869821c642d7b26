from importlib import import_module

import pytest
import torch
from torch import nn

from data_process.errors import InputError
from models.backbone import Backbone
from models.cost import backbone_cost, kept_for_backward


class Tiny(Backbone):
    out_dim = 4
    min_frames = 2

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 5, 3, padding=1, bias=False), nn.BatchNorm3d(5), nn.ReLU(inplace=True))
        self.rest = nn.Conv3d(5, 4, 1, stride=2)

    def parts(self):
        return self.stem, self.rest


def test_the_numbers_of_a_tiny_network_are_those_of_a_pencil():
    stem, rest, whole = backbone_cost(Tiny(), num_frames=4, height=6, width=8)
    voxels, halved = 4 * 6 * 8, 2 * 3 * 4
    assert (stem.name, stem.parameters, stem.macs) == ("stem", 3 * 5 * 27 + 10, 3 * 5 * 27 * voxels)
    assert (rest.name, rest.parameters, rest.macs) == ("rest", 5 * 4 + 4, 5 * 4 * halved)
    assert (stem.shape, rest.shape) == ((5, 4, 6, 8), (4, 2, 3, 4))
    # Kept: the convolution's output, which batch norm wants, and its own output, which the ReLU overwrites and the next
    # convolution wants too; and mean and deviation of 5 channels, once for the two clips of the count.
    assert stem.kept_bytes == 4 * (2 * 5 * voxels) + 4 * 2 * 5 // 2
    assert rest.kept_bytes == 0
    assert (stem.recomputed_bytes, rest.recomputed_bytes) == (0, 4 * 5 * voxels)
    assert whole.parameters == stem.parameters + rest.parameters
    assert whole.macs == stem.macs + rest.macs
    assert (whole.kept_bytes, whole.recomputed_bytes) == (stem.kept_bytes, max(stem.kept_bytes, 4 * 5 * voxels))


def test_counting_leaves_the_network_as_it_was():
    network = Tiny().eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    backbone_cost(network, num_frames=4, height=6, width=8)
    assert not network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_shapes_alone_tell_what_real_tensors_keep():
    network = Tiny()
    clips = torch.rand(2, 3, 4, 6, 8)
    with kept_for_backward(network, clips) as kept:
        network(clips)
    assert kept.num_bytes // 2 == backbone_cost(network, num_frames=4, height=6, width=8)[-1].kept_bytes


def test_clips_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="Tiny needs clips of at least 2 frames"):
        backbone_cost(Tiny(), num_frames=1, height=6, width=8)


# GMACs of a clip of 16 frames in the methods' papers and repositories, measured there on the original code.
PUBLISHED = [
    ("c3d.C3D", 112, 38.5),
    ("r3d.R3D", 112, 19.9),
    ("r21d.R21D", 112, 21.4),
    ("i3d.I3D", 224, 27.8),
    ("resnet3d.ResNet3D", 224, 32.9),
    ("r21d.R21D", 224, 85.5),
]


@pytest.mark.parametrize(("kind", "size", "gmacs"), PUBLISHED, ids=lambda value: str(value))
def test_multiply_adds_are_those_measured_on_the_originals(kind, size, gmacs):
    module, _, name = kind.partition(".")
    with torch.device("meta"):
        network = getattr(import_module(f"models.backbones.{module}"), name)()
    whole = backbone_cost(network, num_frames=16, height=size, width=size)[-1]
    assert whole.macs / 1e9 == pytest.approx(gmacs, abs=0.06)
