"""Checkpoints with recorded names, saved as the originals save, come in whole and give the recorded features."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import models.backbones
from models.weights.architecture import build, find_kind, naming
from models.weights.copies import second_name
from models.weights.foreign_file import read_foreign
from models.weights.imported import find_backbone, take
from models.weights.recognise import recognised
from tests.models.weights.saved_files import saved_as
from tests.parity.recorded import (
    filled,
    filled_log_variance,
    load,
    normal_input,
    recorded_input,
    vectors_root,
)

CSTP = {"r21d_byol": "r21d", "c3d_byol": "c3d", "r3d_byol": "resnet3d", "i3d_byol": "i3d", "s3d_byol": "s3dg"}
DUALVAR = {one: (one, {}) for one in ("r21d", "r3d", "c3d", "s3d", "s3dg")}
DUALVAR |= {"r2d3d18": ("r2d3d", {"depth": 18}), "coclr_r50": ("r2d3d", {"depth": 50})}
IIC = {"c3d": "c3d", "r21d": "r21d", "r3d": "r3d", "r3d18": "r3d_18"}
VTDL = {"i3d": "i3d", "r3d": "resnet3d", "r2p1d": "r21d", "c3d": "c3d"}


def kind_of(short):
    if not (Path(models.backbones.__path__[0]) / f"{short}.py").is_file():
        pytest.skip(f"models/backbones/{short}.py does not exist yet")
    return find_kind(short)


def keys_of(method, network):
    path = vectors_root() / method / "keys.json"
    if not path.is_file():
        pytest.skip(f"keys.json of {method} was recorded elsewhere: INTRAVID_VECTORS names the folder")
    return json.loads(path.read_text(encoding="utf-8"))[network]


def state_of(entries, prefix=""):
    """Recorded names and shapes as a filled state dict; what S3D lists twice has the values of its own name."""
    copies = {f"{prefix}{second_name(key.removeprefix(prefix))}": key for key, _ in entries}
    shapes = {key: tuple(shape) for key, shape in entries}
    assert all(key in copies for key in shapes if key.removeprefix(prefix).startswith("block"))
    assert all(shapes[copy] == shapes[own] for copy, own in copies.items() if copy in shapes)
    return {key: torch.from_numpy(filled_log_variance(copies.get(key, key), shape)) for key, shape in shapes.items()}


def follower(state, prefix, other):
    """The same entries behind another prefix with other values."""
    named = {key: value for key, value in state.items() if key.startswith(prefix)}
    return {other + key.removeprefix(prefix): value + 1 for key, value in named.items()}


def came_in(path, kind, given=None):
    """The backbone of a file; nothing of it is missing, and nothing that the network has is left over."""
    result = find_backbone(path, kind, given)
    match = result.match
    assert (match.missing, match.counters, match.unexpected, dict(match.misshapen)) == ((), (), (), {})
    return match, take(result).backbone.eval()


def near(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("network", CSTP)
def test_checkpoints_of_cstp(tmp_path, network):
    kind, entries = kind_of(CSTP[network]), keys_of("cstp", network)["state_dict_without_target_net"]
    state = state_of(entries, "online_net.")
    state |= follower(state, "online_net.", "target_net.")
    path = tmp_path / "save_300.pth"
    saved = {f"module.{key}": value for key, value in state.items()}
    torch.save({"epoch": 301, "arch": f"{network}-18", "state_dict": saved, "optimizer": {"state": {}}}, path)
    assert CSTP[network] in recognised(read_foreign(path))
    match, backbone = came_in(path, kind)
    assert match.place.prefix == "module.online_net."
    assert {"predictor", "overlap_spa", "overlap_tem", "pb_cls", "target_net"} <= match.beside.keys()
    z = load(vectors_root() / "cstp" / "backbones.npz")
    with torch.no_grad():
        feature = backbone.pooled(normal_input((1, 3, 16, 32, 32), int(z["seed_eval"])))
    feature = functional.normalize(feature, dim=1) if network == "i3d_byol" else feature
    near(feature.numpy(), z[f"{network}_online_eval_0"])


@pytest.mark.parametrize("network", DUALVAR)
def test_checkpoints_of_dualvar_and_coclr(tmp_path, network):
    short, settings = DUALVAR[network]
    kind, keys = kind_of(short), keys_of("dualvar", network)
    heads = keys_of("dualvar", "heads_moco_r21d_S2")["state_dict_without_backbone"]
    state = {f"encoder_q.0.{key}": value for key, value in state_of(keys["state_dict"]).items()}
    state |= follower(state, "encoder_q.0.", "encoder_k.0.") | {key: torch.zeros(shape) for key, shape in heads}
    path = tmp_path / "epoch189.pth.tar"
    torch.save({"epoch": 189, "state_dict": state, "best_acc": np.float64(0.4), "iteration": 9}, path)
    match, backbone = came_in(path, kind, settings)
    assert match.place.prefix == "encoder_q.0."
    z = load(vectors_root() / "dualvar" / "backbones.npz")
    shape, seed = (1, 3, 16, 32, 32), "seed_eval"
    if network == "coclr_r50":
        shape, seed = tuple(z["coclr_r50_shape"].tolist()), "coclr_r50_seed"
    with torch.no_grad():
        near(backbone(normal_input(shape, int(z[seed]))).numpy(), z[f"{network}_eval_out"])


def recorded(method, names):
    """Recorded files whose networks are known, each with the name of its backbone and of its first case."""
    known = []
    for path in sorted((vectors_root() / method).glob("backbone_*.npz")):
        if short := names.get(path.stem.split("_")[1]):
            cases = [match[1] for key in load(path) if (match := re.match(r"((?:\d+x){4}\d+_s\d+)_", key))]
            known.append(pytest.param(path, short, cases[0], id=path.stem))
    return known


def clips_of(case, make):
    shape, _, seed = case.partition("_s")
    return make(tuple(map(int, shape.split("x"))), int(seed))


def save_recorded(path, layout, kind, z, settings):
    """A file whose names are those that were recorded."""
    to_name = naming(kind, layout)
    shapes = {to_name(key): value.shape for key, value in build(kind, settings).state_dict().items()}
    names = [str(key) for key in z["state_keys"] if not str(key).startswith(("id_head.", "cls_head."))]
    state = {key: torch.from_numpy(filled(key, shapes[key])) for key in names}
    torch.save(saved_as(layout, state, {key: value + 1 for key, value in state.items()}), path)


@pytest.mark.parametrize(("vectors", "short", "case"), recorded("iic", IIC))
def test_checkpoints_of_iic(tmp_path, vectors, short, case):
    z, path = load(vectors), tmp_path / "ckpt_epoch_240.pth"
    kind = kind_of(short)
    save_recorded(path, "iic", kind, z, {})
    match, backbone = came_in(path, kind)
    assert (match.place.entry, match.beside) == ("model", {"linear": 2})
    with torch.no_grad():
        feature = backbone.pooled(clips_of(case, recorded_input))
    np.testing.assert_allclose(feature, z[f"{case}_feat_f32"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("vectors", "short", "case"), recorded("vtdl", VTDL))
def test_checkpoints_of_vtdl(tmp_path, vectors, short, case):
    z, path = load(vectors), tmp_path / "ckpt_epoch_48.pth"
    kind = kind_of(short)
    save_recorded(path, "vtdl", kind, z, {})
    match, backbone = came_in(path, kind)
    assert (match.place.entry, match.place.prefix) == ("model", "module.")
    with torch.no_grad():
        feature = backbone.pooled(clips_of(case, normal_input))
    np.testing.assert_allclose(feature, z[f"{case}_pooled_conv_f32"], rtol=1e-4, atol=1e-5)
