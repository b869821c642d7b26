import pytest
import torch
from torch import nn
from torch.nn import functional

from engine.grad_cam import grad_cam
from models.backbone import Backbone
from models.backbones.r3d import R3D


class Shown(Backbone):
    """Channel c of the feature map is channel c of the clip: what the maps must show is known."""

    out_dim = 3

    def parts(self):
        return (nn.ReLU(),)


def bright(frame, row, column, *, channel=0):
    clips = torch.zeros(1, 3, 8, 8, 8)
    clips[0, channel, frame, row, column] = 1.0
    return clips


@pytest.mark.parametrize("place", [(0, 0, 0), (5, 3, 6)])
def test_heat_is_when_and_where_the_class_is_seen(place):
    maps = grad_cam(Shown().eval(), bright(*place), torch.tensor([[1.0, 0.0, 0.0]]))
    expected = torch.zeros(1, 8, 8, 8)
    expected[(0, *place)] = 1.0
    assert torch.equal(maps, expected)


def test_what_speaks_against_the_class_and_what_is_not_there_is_cold():
    against = grad_cam(Shown().eval(), bright(2, 2, 2), torch.tensor([[-1.0, 0.0, 0.0]]))
    other = grad_cam(Shown().eval(), bright(2, 2, 2, channel=1), torch.tensor([[1.0, 0.0, 0.0]]))
    assert not against.any()
    assert not other.any()


def slow_grad_cam(backbone, clip, direction, *, part):
    """Equations 1 and 2 with loops, on the output of one part of the backbone."""
    parts = list(backbone.parts())
    inner = clip
    for module in parts[: part + 1]:
        inner = module(inner)
    inner = inner.detach().requires_grad_()
    x = inner
    for module in parts[part + 1 :]:
        x = module(x)
    score = sum(direction[k] * x[0, k].mean() for k in range(x.shape[1]))
    (gradient,) = torch.autograd.grad(score, inner)
    heat = sum(gradient[0, k].mean() * inner[0, k].detach() for k in range(inner.shape[1])).clamp_min(0)
    heat = functional.interpolate(heat[None, None], size=clip.shape[2:], mode="trilinear", align_corners=False)[0, 0]
    return heat / heat.max()


def test_maps_of_a_network_are_those_of_the_equations_one_clip_at_a_time():
    torch.manual_seed(0)
    backbone = R3D(width=4).eval()
    clips, directions = torch.rand(3, 3, 8, 32, 32), torch.randn(3, 32)
    maps = grad_cam(backbone, clips, directions)
    assert maps.shape == (3, 8, 32, 32)
    shapes, x = [], clips
    for part in backbone.parts():
        x = part(x)
        shapes.append(tuple(x.shape[2:]))
    # The last one that tells four times and 4 x 4 places apart.
    part = max(number for number, shape in enumerate(shapes) if min(shape) >= 4)
    assert part < len(shapes) - 1
    for clip, direction, heat in zip(clips, directions, maps, strict=True):
        torch.testing.assert_close(
            heat, slow_grad_cam(backbone, clip[None], direction, part=part), atol=1e-5, rtol=1e-4
        )


def test_weights_and_gradients_of_the_network_stay_as_they_were():
    backbone = R3D(width=4).eval()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with torch.no_grad():
        grad_cam(backbone, torch.rand(1, 3, 8, 32, 32), torch.randn(1, 32))
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
