"""I3D beside what the releases of VTDL and CSTP computed; tolerances are those of the vectors' READMEs."""

import re
import zlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from models.backbones import i3d
from tests.parity.recorded import (
    filled,
    filled_as,
    filled_log_variance,
    keys_of,
    load,
    make_backbone,
    name,
    near,
    normal_input,
    outputs_of,
    shapes_below,
    vectors_root,
)

FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}
FLOAT64 = {"rtol": 1e-7, "atol": 1e-9}
TAPS = {"conv3d": "conv", "maxPool3d": "pool", "mixed": "mixed"}  # what our layers are called


def recorded(pattern):
    return sorted((vectors_root() / "vtdl").glob(pattern))


def published_i3d(state_keys=()):
    return make_backbone(i3d, out_dim=1024, state_keys=list(state_keys), layout="vtdl").eval()


@pytest.mark.parametrize("path", recorded("backbone_i3d*.npz"), ids=name)
def test_layers_features_and_heads_are_those_of_vtdl(path):
    z = load(path)
    keys = set(z["state_keys"].tolist())
    backbone = published_i3d(keys)
    heads = nn.ModuleDict(
        {"id": filled_as("id_head.2", nn.Linear(1024, 128)), "cls": filled_as("cls_head.2", nn.Linear(1024, 200))}
    )
    assert {i3d.vtdl_key(key) for key in backbone.state_dict()} == {key for key in keys if "_head." not in key}
    whole = nn.ModuleList([backbone, heads])
    assert sum(p.numel() for p in whole.parameters()) == int(z["num_params_pretrain"])
    cases = sorted({match[1] for key in z if (match := re.match(r"([\dx]+_s\d+)_", key))})
    assert cases
    for case in cases:
        shape, seed = case.split("_s")
        clips = normal_input(tuple(map(int, shape.split("x"))), int(seed))
        assert zlib.crc32(clips.numpy().tobytes()) == int(z[f"{case}_input_crc"])
        check_layers(z, case, backbone, clips)
        with torch.no_grad():
            feature_map = backbone(clips)
            pooled = backbone.pooled(clips)
            halves = functional.adaptive_avg_pool3d(feature_map, (2, 1, 1)).flatten(1)
            ours = {
                "pooled_conv": pooled,
                "feature": functional.normalize(halves),
                "cls": heads["cls"](pooled),
                "id": functional.normalize(heads["id"](pooled)),
            }
            for place, value in ours.items():
                np.testing.assert_allclose(value, z[f"{case}_{place}_f32"], **FLOAT32, err_msg=place)
            exact = functional.normalize(heads.double()["id"](backbone.double().pooled(clips.double())))
            np.testing.assert_allclose(exact, z[f"{case}_out0_f64"], **FLOAT64)
            whole.float()
            if f"{case}_id_trainmode_f32" in z:
                unit = functional.normalize(heads["id"](published_i3d(keys).train().pooled(clips)))
                np.testing.assert_allclose(unit, z[f"{case}_id_trainmode_f32"], **FLOAT32)


def check_layers(z, case, backbone, clips):
    """Shape, statistics and eight values of every recorded layer."""
    layers = dict(layer for stage in backbone.stages for layer in stage.named_children())
    wanted = {match[1] for key in z if (match := re.match(rf"{case}_tap_(\w+)_stats", key))}
    assert len(wanted) > 10
    outputs = {}
    hooks = []
    for tap in wanted:
        kind, place = tap.split("_")[:2]
        hooks.append(
            layers[f"{TAPS[kind]}_{place}"].register_forward_hook(
                lambda module, inputs, output, tap=tap: outputs.__setitem__(tap, output.double().numpy().copy())
            )
        )
    with torch.no_grad():
        backbone(clips)
    for hook in hooks:
        hook.remove()
    for tap, output in outputs.items():
        assert output.shape == tuple(z[f"{case}_tap_{tap}_shape"])
        spots = output.ravel()[np.linspace(0, output.size - 1, 8).astype(int)]
        stats = [output.mean(), output.std(), np.linalg.norm(output), *spots]
        np.testing.assert_allclose(stats, z[f"{case}_tap_{tap}_stats"], **FLOAT32, err_msg=tap)
    assert set(outputs) == wanted


@pytest.mark.parametrize("path", recorded("classifier_i3d*.npz"), ids=name)
def test_classes_of_a_fine_tuned_network_are_those_of_vtdl(path):
    z = load(path)
    backbone = published_i3d()
    classes = z["log_probs"].shape[1]
    key = "conv3d_0c_1x1_custom.conv3d.weight"
    assert {*(i3d.vtdl_key(name) for name, _ in backbone.named_parameters()), key} == set(z["state_keys"].tolist())
    weight = torch.from_numpy(filled(key, torch.Size((classes, 1024, 7, 1, 1))))
    assert sum(p.numel() for p in backbone.parameters()) + weight.numel() == int(z["num_params"])
    with torch.no_grad():
        pooled = functional.avg_pool3d(backbone(normal_input(tuple(z["shape"]), int(z["seed"]))), (2, 7, 7), stride=1)
        logits = functional.conv3d(pooled, weight, padding=(3, 0, 0)).flatten(2).mean(2)
    np.testing.assert_allclose(logits.log_softmax(1), z["log_probs"], **FLOAT32)


def test_keys_and_features_are_those_of_cstp():
    keys = keys_of("cstp")["i3d_byol"]
    backbone = make_backbone(
        i3d,
        out_dim=1024,
        state_keys=[],
        layout="cstp",
        fill=lambda key, shape: filled_log_variance(f"online_net.{key}", shape),
    ).eval()
    ours = {i3d.vtdl_key(key): tuple(value.shape) for key, value in backbone.state_dict().items()}
    assert ours == shapes_below(keys["state_dict_without_target_net"], "online_net.")
    parameters = sum(p.numel() for p in backbone.parameters())
    assert parameters == keys["online_params"]
    for classes in (101, 51):
        assert parameters + 7 * 1024 * classes == keys[f"classifier_params_{classes}"]
    for z in outputs_of("cstp"):
        with torch.no_grad():
            unit = functional.normalize(backbone.pooled(normal_input((1, 3, 16, 32, 32), int(z["seed_eval"]))))
        near(unit.numpy(), z["i3d_byol_online_eval_0"])
