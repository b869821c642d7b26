"""S3D and S3D-G against their releases written out layer by layer, on generated weights and clips."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from models.backbones import s3d, s3dg
from models.backbones.s3d import S3D
from models.backbones.s3dg import S3DG

# Layers in the order in which they are computed, and torchvision's numbers of them; pools by their kernel and stride.
SEQUENCE = (
    "Conv_1a",
    ((1, 3, 3), (1, 2, 2)),
    "Conv_2b",
    "Conv_2c",
    ((1, 3, 3), (1, 2, 2)),
    *("Mixed_3b", "Mixed_3c"),
    ((3, 3, 3), (2, 2, 2)),
    *("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"),
    ((2, 2, 2), (2, 2, 2)),
    *("Mixed_5b", "Mixed_5c"),
)
UNITS = {  # convolution and norm of a 1x1x1 unit; of the two halves of a separable one
    "released": (("conv", "bn"), (("conv1", "bn1"), ("conv2", "bn2"))),
    "torchvision": (("0", "1"), (("0.0", "0.1"), ("1.0", "1.1"))),
}


class Slow:
    """The network, computed from a state dict in a published layout."""

    def __init__(self, state, *, layout, eps):
        self.state, self.eps, self.layout = state, eps, layout
        self.point_names, self.separable_names = UNITS[layout]

    def unit(self, x, place, names, stride=1):
        conv, norm = (f"{place}.{name}" for name in names)
        weight = self.state[f"{conv}.weight"]
        strides = [stride if k > 1 else 1 for k in weight.shape[2:]]
        x = functional.conv3d(x, weight, stride=strides, padding=[k // 2 for k in weight.shape[2:]])
        stats = (self.state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *stats, eps=self.eps).relu()

    def point(self, x, place):
        return self.unit(x, place, self.point_names)

    def separable(self, x, place, stride=1):
        for names in self.separable_names:
            x = self.unit(x, place, names, stride)
        return x

    def mixed(self, x, place):
        first = f"{place}.branch0" + (".0" if self.layout == "released" else "")
        pooled = functional.max_pool3d(x, 3, stride=1, padding=1)
        branches = [
            self.point(x, first),
            self.separable(self.point(x, f"{place}.branch1.0"), f"{place}.branch1.1"),
            self.separable(self.point(x, f"{place}.branch2.0"), f"{place}.branch2.1"),
            self.point(pooled, f"{place}.branch3.1"),
        ]
        return torch.cat([self.gated(branch, f"{place}.gating_b{i}.fc") for i, branch in enumerate(branches)], dim=1)

    def gated(self, x, place):
        if f"{place}.weight" not in self.state:
            return x
        scores = functional.linear(x.mean((2, 3, 4)), self.state[f"{place}.weight"], self.state[f"{place}.bias"])
        return torch.einsum("bcthw,bc->bcthw", x, scores.sigmoid())

    def __call__(self, x):
        for number, layer in enumerate(SEQUENCE):
            place = layer if self.layout == "released" else f"features.{number}"
            if not isinstance(layer, str):
                kernel, stride = layer
                x = functional.max_pool3d(x, kernel, stride, padding=[(k - 1) // 2 for k in kernel])
            elif layer.startswith("Mixed"):
                x = self.mixed(x, place)
            else:
                x = (
                    self.point(x, place)
                    if layer == "Conv_2b"
                    else self.separable(x, place, 2 if layer == "Conv_1a" else 1)
                )
        return x


@pytest.mark.parametrize("size", [(5, 17, 17), (8, 33, 50), (16, 32, 32)])
@pytest.mark.parametrize(
    ("module", "kind", "layout"),
    [(s3d, S3D, "coclr"), (s3d, S3D, "dualvar"), (s3d, S3D, "torchvision"), (s3dg, S3DG, "cstp")],
    ids=["s3d-coclr", "s3d-dualvar", "s3d-torchvision", "s3dg-cstp"],
)
def test_features_are_those_of_the_layers_under_their_published_names(module, kind, layout, size, random_norms):
    settings = getattr(module, "LAYOUT_SETTINGS", {}).get(layout, {})
    backbone = random_norms(kind(width=8, **settings)).eval()
    state = {module.LAYOUTS[layout](key): value for key, value in backbone.state_dict().items()}
    slow = Slow(
        state,
        layout="torchvision" if layout == "torchvision" else "released",
        eps=1e-3 if layout == "torchvision" else 1e-5,
    )
    clips = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(backbone(clips), slow(clips), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "parameters"), [(S3D, 7_910_048), (S3DG, 9_098_000)])
def test_parameters_are_as_many_as_published(kind, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in kind().parameters()) == parameters


def test_gates_only_scale_channels_of_the_ungated_network(random_norms):
    plain, gated = random_norms(S3D(width=8)).eval(), S3DG(width=8).eval()
    gated.load_state_dict(plain.state_dict() | {k: v for k, v in gated.state_dict().items() if ".gate." in k})
    for module in gated.modules():
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.constant_(module.bias, 30.0)
    clips = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(gated(clips), plain(clips))
        for module in gated.stages[4].mixed_5c.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        torch.testing.assert_close(gated(clips), plain(clips) / 2)


def test_releases_draw_their_first_weights_so():
    torch.manual_seed(0)
    small, odd = S3DG(width=16, legacy_init="coclr"), S3DG(width=16, legacy_init="cstp")
    for module in small.modules():
        if isinstance(module, nn.Conv3d) and module.weight.numel() > 5000:
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.05)
    scales = torch.cat([module.weight for module in odd.modules() if isinstance(module, nn.BatchNorm3d)])
    assert 0.4 < (scales < 0).float().mean().item() < 0.6
    gate = odd.stages[4].mixed_5c.branches[0].gate.fc.weight
    assert gate.abs().max().item() == pytest.approx((6 / (2 * gate.shape[0])) ** 0.5, rel=1e-2)


def test_first_weights_of_other_releases_are_refused():
    with pytest.raises(ValueError, match="'coclr', 'cstp' or null, got 'vtdl'"):
        S3D(width=4, legacy_init="vtdl")
