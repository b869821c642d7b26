"""C3D and the residual networks beside the outputs that the four releases gave; tolerances are those of the READMEs."""

import functools
import re
import zlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from models.backbones import c3d, r3d, r3d_18, r21d, resnet3d
from tests.parity.recorded import (
    filled_as,
    filled_log_variance,
    keys_of,
    load,
    make_backbone,
    name,
    near,
    normal_input,
    outputs_of,
    recorded_input,
    shapes_below,
    vectors_root,
)

FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}
FLOAT64 = {"rtol": 1e-7, "atol": 1e-9}
SHAPE_EVAL, SHAPE_TRAIN = (1, 3, 16, 32, 32), (2, 3, 8, 32, 32)
IIC = {"c3d": c3d, "r3d": r3d, "r21d": r21d, "r3d18": r3d_18}
VTDL = {"c3d": c3d, "r3d": resnet3d, "r2p1d": r21d}
DUALVAR = {"c3d": c3d, "r3d": r3d, "r21d": r21d}
DUALVAR_STAGES = {
    "c3d": [f"{kind}{place}" for place in ("1", "2", "3a", "3b", "4a", "4b", "5a", "5b") for kind in ("conv", "bn")],
    "r3d": ["conv1", "bn1", "conv2", "conv3", "conv4", "conv5"],
    "r21d": ["conv1", "bn1", "conv2", "conv3", "conv4", "conv5"],
}
DUALVAR_NORMS = {  # whose statistics were recorded after a forward pass: the first and the last of the network
    "c3d": ("bn1", "bn5b"),
    "r3d": ("bn1", "conv5.block1.bn2"),
    "r21d": ("conv1.bn", "conv5.block1.bn2"),
}
CSTP = {"c3d_byol": c3d, "r3d_byol": resnet3d, "r21d_byol": r21d}


def recorded(method, networks):
    """Files of a method that belong to one of the networks."""
    paths = sorted((vectors_root() / method).glob("backbone_*.npz"))
    return [path for path in paths if network_name(path) in networks]


def network_name(path):
    return path.stem.split("_")[1]


def cases(z):
    return sorted({match[1] for key in z if (match := re.match(r"(\dx\d+x\d+x\d+x\d+_s\d+)_", key))})


def clips_of(case, make):
    shape, seed = case.split("_s")
    return make(tuple(map(int, shape.split("x"))), int(seed))


def named_as(backbone, original, state_keys, place):
    """Our module whose entries are those below a name of the original."""
    theirs = {key for key in state_keys if key.startswith(f"{place}.")}
    for path, module in backbone.named_modules():
        if path and {original(f"{path}.{key}") for key in module.state_dict()} == theirs:
            return module
    raise AssertionError(f"no module of ours is {place}")


def stages_of(backbone, original, state_keys, places, clips):
    """Outputs of modules, by their original names, in one forward pass; taken before a later ReLU works in place."""
    taken = {}
    hooks = [
        named_as(backbone, original, state_keys, place).register_forward_hook(
            lambda module, inputs, output, place=place: taken.__setitem__(place, output.double().numpy().copy())
        )
        for place in places
    ]
    with torch.no_grad():
        backbone(clips)
    for hook in hooks:
        hook.remove()
    return taken


@pytest.mark.parametrize(
    ("method", "path"),
    [(m, p) for m, networks in (("iic", IIC), ("vtdl", VTDL)) for p in recorded(m, networks)],
    ids=lambda value: getattr(value, "stem", value),
)
def test_inner_outputs_are_those_of_iic_and_vtdl(method, path):
    z = load(path)
    module = {"iic": IIC, "vtdl": VTDL}[method][network_name(path)]
    keys = [key for key in z["state_keys"].tolist() if "_head." not in key]
    backbone = make_backbone(module, out_dim=512, state_keys=keys, layout=method).eval()
    assert {module.LAYOUTS[method](key) for key in backbone.state_dict()} == set(keys)
    for case in cases(z):
        clips = clips_of(case, recorded_input if method == "iic" else normal_input)
        taps = [m[1] for key in z if (m := re.match(rf"{case}_tap_(\w+)_stats", key)) and m[1] != "maxpool"]
        assert taps
        for place, output in stages_of(backbone, module.LAYOUTS[method], keys, taps, clips).items():
            assert output.shape == tuple(z[f"{case}_tap_{place}_shape"])
            spots = output.ravel()[np.linspace(0, output.size - 1, 8).astype(int)]
            stats = [output.mean(), output.std(), np.linalg.norm(output), *spots]
            np.testing.assert_allclose(stats, z[f"{case}_tap_{place}_stats"], **FLOAT32, err_msg=place)


@pytest.mark.parametrize("path", recorded("vtdl", VTDL), ids=name)
def test_features_are_those_of_vtdl(path):
    z = load(path)
    module = VTDL[network_name(path)]
    keys = z["state_keys"].tolist()
    heads = {
        key: filled_as(key, nn.Linear(512, size))
        for key, size in (("id_head.2", 128), ("cls_head.2", 200))
        if f"{key}.bias" in keys
    }
    backbone = make_backbone(module, out_dim=512, state_keys=keys, layout="vtdl")
    modules = nn.ModuleList([backbone, *heads.values()])
    assert sum(p.numel() for p in modules.parameters()) == int(z["num_params_pretrain"])
    found = cases(z)
    assert found
    for case in found:
        clips = clips_of(case, normal_input)
        assert zlib.crc32(clips.numpy().tobytes()) == int(z[f"{case}_input_crc"])
        with torch.no_grad():
            ours = vtdl_outputs(backbone.eval(), heads, clips)
            for place in ("pooled_conv", "feature", *(["id", "cls"] if heads else [])):
                np.testing.assert_allclose(ours[place], z[f"{case}_{place}_f32"], **FLOAT32, err_msg=place)
            exact = vtdl_outputs(modules.double()[0], heads, clips.double())
            np.testing.assert_allclose(exact["id" if heads else "feature"], z[f"{case}_out0_f64"], **FLOAT64)
            modules.float()
            if f"{case}_id_trainmode_f32" in z:
                before = {key: value.clone() for key, value in backbone.state_dict().items()}
                ours = vtdl_outputs(backbone.train(), heads, clips)
                np.testing.assert_allclose(ours["id"], z[f"{case}_id_trainmode_f32"], **FLOAT32)
                backbone.load_state_dict(before)


def vtdl_outputs(backbone, heads, clips):
    """The pooled feature and what follows it: C3D ends there, the others give unit features to linear heads."""
    pooled = backbone.pooled(clips)
    if not heads:
        return {"pooled_conv": pooled, "feature": pooled}
    return {
        "pooled_conv": pooled,
        "feature": functional.normalize(pooled),
        "id": functional.normalize(heads["id_head.2"](pooled)),
        "cls": heads["cls_head.2"](pooled),
    }


def shapes(backbone, original):
    return {original(key): tuple(value.shape) for key, value in backbone.state_dict().items()}


@pytest.mark.parametrize("network", DUALVAR)
def test_keys_and_feature_maps_are_those_of_dualvar(network):
    keys = keys_of("dualvar")[network]
    module = DUALVAR[network]
    theirs = shapes_below(keys["state_dict"])
    make = functools.partial(
        make_backbone, module, out_dim=512, state_keys=list(theirs), layout="dualvar", fill=filled_log_variance
    )
    original = module.LAYOUTS["dualvar"]
    assert shapes(make(), original) == theirs
    assert sum(p.numel() for p in make().parameters()) == keys["params"]
    for z in outputs_of("dualvar"):
        clips = normal_input(SHAPE_EVAL, int(z["seed_eval"]))
        backbone = make().eval()
        with torch.no_grad():
            near(backbone(clips).numpy(), z[f"{network}_eval_out"])
        places = DUALVAR_STAGES[network]
        outputs = stages_of(backbone, original, list(theirs), places, clips)
        stats = [(o.mean(), o.std(ddof=1), np.linalg.norm(o)) for o in (outputs[place] for place in places)]
        np.testing.assert_allclose(stats, z[f"{network}_eval_stage_stats"], **FLOAT32)
        backbone = make().train()
        with torch.no_grad():
            near(backbone(normal_input(SHAPE_TRAIN, int(z["seed_train"]))).numpy(), z[f"{network}_train_out"])
        buffers = {original(key): value.numpy() for key, value in backbone.state_dict().items()}
        first, last = DUALVAR_NORMS[network]
        near(buffers[f"{first}.running_mean"], z[f"{network}_train_first_running_mean"])
        near(buffers[f"{last}.running_var"], z[f"{network}_train_last_running_var"])


@pytest.mark.parametrize("network", CSTP)
def test_keys_and_features_are_those_of_cstp(network):
    keys = keys_of("cstp")[network]
    module = CSTP[network]
    online = shapes_below(keys["state_dict_without_target_net"], "online_net.")
    theirs = {key: shape for key, shape in online.items() if not key.startswith("project.")}
    backbone = cstp_online(module, list(theirs)).eval()
    assert shapes(backbone, module.LAYOUTS["cstp"]) == theirs
    head = cstp_classifier(set(shapes_below(keys["classifier_extra_keys"])), classes=101).eval()
    assert sum(p.numel() for p in nn.ModuleList([backbone, head]).parameters()) == keys["classifier_params_101"]
    for z in outputs_of("cstp"):
        with torch.no_grad():
            near(backbone.pooled(normal_input(SHAPE_EVAL, int(z["seed_eval"]))).numpy(), z[f"{network}_online_eval_0"])
            unit = functional.normalize(backbone.pooled(normal_input(SHAPE_EVAL, int(z["seed_ft"]))))
            near(head(unit).numpy(), z[f"{network}_ft_logits"])


def cstp_online(module, state_keys):
    """A backbone as CSTP's online network holds it; for fine-tuning, too."""

    def fill(key, shape):
        return filled_log_variance(f"online_net.{key}", shape)

    return make_backbone(module, out_dim=512, state_keys=state_keys, layout="cstp", fill=fill)


def cstp_classifier(keys, *, classes):
    """Batch norm and linear layer under two original names, of which the batch norm's has statistics."""
    modules = {key.rpartition(".")[0] for key in keys}
    (norm,) = (module for module in modules if f"{module}.running_var" in keys)
    (last,) = modules - {norm}
    return nn.Sequential(
        filled_as(norm, nn.BatchNorm1d(512), filled_log_variance),
        filled_as(last, nn.Linear(512, classes), filled_log_variance),
    )


@pytest.mark.parametrize("network", CSTP)
def test_predictions_in_training_are_those_of_cstp(network):
    path = vectors_root() / "cstp" / "losses.npz"
    z = load(path) if path.is_file() else {}
    if f"full_{network}_x_shape" not in z:
        pytest.skip(f"no training step of {network} is recorded: INTRAVID_VECTORS names the folder")
    entries = keys_of("cstp")[network]["state_dict_without_target_net"]
    online = cstp_online(CSTP[network], list(shapes_below(entries, "online_net."))).train()
    spatial, temporal, playback, rotation = (
        cstp_head(entries, name).train() for name in ("overlap_spa", "overlap_tem", "pb_cls", "rotate_cls")
    )
    shape = tuple(z[f"full_{network}_x_shape"])
    with torch.no_grad():
        first, second = (online.pooled(normal_input(shape, int(z[seed]))) for seed in ("seed_x1", "seed_x2"))
        both = torch.cat([first, second], dim=1)
        ours = {
            "spa": spatial(both),
            "tem": temporal(both),
            "pb1": playback(first),
            "pb2": playback(second),
            "rot1": rotation(first),
            "rot2": rotation(second),
        }
    for task, prediction in ours.items():
        theirs = z[f"full_{network}_pred_{task}"]
        np.testing.assert_allclose(prediction, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max(), err_msg=task)


def cstp_head(entries, key):
    """A head from its listed shapes: one linear layer, or two with batch norm and ReLU between."""
    listing = shapes_below(entries, f"{key}.")
    if "weight" in listing:
        return filled_as(key, nn.Linear(*reversed(listing["weight"])), filled_log_variance)
    inner, outer = listing["0.weight"], listing["3.weight"]
    layers = nn.Linear(*reversed(inner)), nn.BatchNorm1d(inner[0]), nn.ReLU(), nn.Linear(*reversed(outer))
    return filled_as(key, nn.Sequential(*layers), filled_log_variance)
