"""Heads against recorded outputs of the releases, on recorded features where a file holds them."""

import re

import numpy as np
import pytest
import torch

from models.heads.classifiers import LinearClassifier, TemporalClassifier
from models.heads.embedding import MLPHead, UnitFeatures
from models.heads.layouts import HEADS, head_state, original_names
from tests.parity.recorded import (
    backbone_module,
    filled,
    filled_log_variance,
    found,
    keys_of,
    load,
    make_backbone,
    name,
    near,
    normal_input,
    vectors_root,
)

FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}


def fill(head, layout, role, recipe, place=0):
    """The head with the weights of the recipe, read under the names of the release."""
    names = original_names(head, HEADS[layout][role][place])
    state = head.state_dict()
    published = {original: torch.from_numpy(recipe(original, state[key].shape)) for key, original in names.items()}
    head.load_state_dict(head_state(head, published, layout=layout, role=role))
    return head.eval()


def cases(z, suffix):
    return sorted({key.removesuffix(suffix) for key in z if key.endswith(suffix)})


@pytest.mark.parametrize("path", found("iic", "backbone_*.npz"), ids=name)
def test_class_scores_of_iic_are_those_of_the_release(path):
    z = load(path)
    for case in cases(z, "_logits101_f32"):
        features = torch.from_numpy(z[f"{case}_feat_f32"])
        head = fill(LinearClassifier(features.shape[1], 101), "iic", "classifier", filled)
        np.testing.assert_allclose(head(features).detach(), z[f"{case}_logits101_f32"], **FLOAT32)


@pytest.mark.parametrize("path", found("vtdl", "backbone_*.npz"), ids=name)
def test_identities_and_pseudo_labels_of_vtdl_are_those_of_the_release(path):
    z = load(path)
    assert cases(z, "_pooled_conv_f32")
    for case in cases(z, "_pooled_conv_f32"):
        features = torch.from_numpy(z[f"{case}_pooled_conv_f32"])
        for role, recorded, options in (
            ("identity", "id", {"normalize": True}),
            ("pseudo_labels", "cls", {}),
        ):
            if f"{case}_{recorded}_f32" in z:
                expected = z[f"{case}_{recorded}_f32"]
                head = fill(MLPHead(features.shape[1], expected.shape[1], **options), "vtdl", role, filled)
                np.testing.assert_allclose(head(features).detach(), expected, **FLOAT32)
        if f"{case}_id_f32" in z and z[f"{case}_feature_f32"].shape == features.shape:  # I3D's keeps two frames
            maps = features[:, :, None, None, None]
            np.testing.assert_allclose(UnitFeatures()(maps), z[f"{case}_feature_f32"], **FLOAT32)


def recorded_of_cstp(pattern):
    """Its files, which the repository has no copies of."""
    paths = sorted((vectors_root() / "cstp").glob(pattern))
    if not paths:
        pytest.skip(f"{pattern} of cstp was recorded elsewhere: INTRAVID_VECTORS names the folder")
    return [load(path) for path in paths]


def test_projections_of_cstp_are_those_of_the_release():
    for z in recorded_of_cstp("backbones*.npz"):
        models = cases(z, "_online_eval_1")
        assert models
        for model in models:
            shapes = dict(keys_of("cstp")[model]["state_dict_without_target_net"])
            hidden, features = shapes["online_net.project.net.0.weight"]
            head = MLPHead(features, shapes["online_net.project.net.3.weight"][0], hidden_dim=hidden, batch_norm=True)
            fill(head, "cstp", "projector", filled_log_variance)
            projected = head(torch.from_numpy(z[f"{model}_online_eval_0"])).detach().numpy()
            near(projected, z[f"{model}_online_eval_1"])


VTDL = {"r3d": "resnet3d", "r2p1d": "r21d"}
CSTP = {"r3d": "resnet3d", "s3d": "s3dg"}
"""Names of networks in the releases that are other ones here."""


def vtdl_network(path, z, out_dim):
    recorded = path.stem.split("_")[1]
    module = backbone_module(VTDL.get(recorded, recorded))
    return make_backbone(module, out_dim=out_dim, state_keys=z["state_keys"].tolist(), layout="vtdl").eval()


@pytest.mark.parametrize("path", found("vtdl", "backbone_i3d*.npz"), ids=name)
def test_unit_features_keep_two_frames_of_i3d_as_in_vtdl(path):
    z = load(path)
    network = vtdl_network(path, z, 1024)
    for case in cases(z, "_feature_f32"):
        shape, _, seed = case.partition("_s")
        clips = normal_input(tuple(map(int, shape.split("x"))), int(seed))
        with torch.no_grad():
            np.testing.assert_allclose(UnitFeatures(2)(network(clips)), z[f"{case}_feature_f32"], **FLOAT32)


@pytest.mark.parametrize("path", found("vtdl", "classifier_*.npz"), ids=name)
def test_classes_of_vtdl_are_those_of_the_release(path):
    z = load(path)
    out_dim = 1024 if str(z["backbone"]) == "i3d" else 512
    network, classes = vtdl_network(path, z, out_dim), z["log_probs"].shape[1]
    heads = (
        TemporalClassifier(out_dim, classes, dropout=0.5),
        TemporalClassifier(out_dim, classes, window=1, kernel=1),
        LinearClassifier(out_dim, classes),
    )
    (place,) = [
        place
        for place, head in enumerate(heads)
        if set(original_names(head, HEADS["vtdl"]["classifier"][place]).values()) <= set(z["state_keys"].tolist())
    ]
    head = fill(heads[place], "vtdl", "classifier", filled, place)
    counted = sum(parameter.numel() for part in (network, head) for parameter in part.parameters())
    assert counted == int(z["num_params"])
    with torch.no_grad():
        scores = head(network(normal_input(tuple(z["shape"]), int(z["seed"])))).log_softmax(dim=1)
    # Of networks whose original gives logits here (methods, 6.1), these are the logits up to a constant.
    np.testing.assert_allclose(scores, torch.from_numpy(z["log_probs"]).log_softmax(dim=1), **FLOAT32)


def cstp_network(model, keys):
    recorded = model.partition("_")[0]
    names = [key.removeprefix("online_net.") for key, _ in keys["state_dict_without_target_net"]]
    return make_backbone(
        backbone_module(CSTP.get(recorded, recorded)),
        out_dim=1024 if recorded in ("i3d", "s3d") else 512,
        state_keys=names,
        layout="cstp",
        fill=lambda key, shape: filled_log_variance(f"online_net.{key}", shape),
    )


def test_classes_of_cstp_are_those_of_the_release():
    for z in recorded_of_cstp("backbones*.npz"):
        for model in cases(z, "_ft_logits"):
            check_classes_of_cstp(z, model)


def check_classes_of_cstp(z, model):
    keys = keys_of("cstp")[model]
    network = cstp_network(model, keys).eval()
    place = 0 if any(key.startswith("cls_bn") for key, _ in keys["classifier_extra_keys"]) else 1
    head = LinearClassifier(network.out_dim, 101, normalize=True, batch_norm=True)
    fill(head, "cstp", "classifier", filled_log_variance, place)
    counted = sum(parameter.numel() for part in (network, head) for parameter in part.parameters())
    assert counted == keys["classifier_params_101"]
    with torch.no_grad():
        near(head(network(normal_input((1, 3, 16, 32, 32), int(z["seed_ft"])))).numpy(), z[f"{model}_ft_logits"])


def test_pretext_predictions_of_cstp_in_training_are_those_of_the_release():
    for z in recorded_of_cstp("losses*.npz"):
        for model in sorted({match[1] for key in z if (match := re.match(r"full_(\w+)_pred_spa$", key))}):
            check_predictions_of_cstp(z, model)


def check_predictions_of_cstp(z, model):
    network = cstp_network(model, keys_of("cstp")[model]).train()
    shape = tuple(z[f"full_{model}_x_shape"])
    with torch.no_grad():
        one, other = (network.pooled(normal_input(shape, int(z[f"seed_x{clip}"]))) for clip in (1, 2))
    both = torch.cat([one, other], dim=1)
    for role, recorded, features in (
        ("spatial_overlap", "spa", both),
        ("temporal_overlap", "tem", both),
        ("playback", "pb1", one),
        ("playback", "pb2", other),
        ("rotation", "rot1", one),
        ("rotation", "rot2", other),
    ):
        expected, width = z[f"full_{model}_pred_{recorded}"], features.shape[1]
        layers = {"hidden_dim": width, "batch_norm": True} if model.startswith("r21d") else {}
        head = MLPHead(width, expected.shape[1], **layers)
        fill(head, "cstp", role, filled_log_variance, place=0 if layers else 1)
        predicted = head.train()(features).detach()
        np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_heads_of_cstp_have_the_published_names_and_shapes():
    for model, entry in keys_of("cstp").items():
        state = {key: torch.zeros(shape) for key, shape in entry["state_dict_without_target_net"]}
        width = state["predictor.net.0.weight"].shape[1]
        mlp = f"{model}: overlap_spa.3.weight" if "overlap_spa.3.weight" in state else None
        pretext = {"spatial_overlap": 2, "temporal_overlap": 2, "playback": 1, "rotation": 1}
        heads = {"predictor": MLPHead(width, width, hidden_dim=4096, batch_norm=True)}
        if "online_net.project.net.0.weight" in state:
            hidden = state["online_net.project.net.0.weight"].shape[0]
            heads["projector"] = MLPHead(width, width, hidden_dim=hidden, batch_norm=True)
        for role, clips in pretext.items():
            classes = 5 if mlp or clips == 2 else 4
            heads[role] = (
                MLPHead(clips * width, classes, hidden_dim=clips * width, batch_norm=True)
                if mlp
                else MLPHead(clips * width, classes)
            )
        taken = set()
        for role, head in heads.items():
            head.load_state_dict(head_state(head, state, layout="cstp", role=role))
            taken |= {
                key
                for names in HEADS["cstp"][role]
                if set(names) == {key.partition(".")[0] for key in head.state_dict()}
                for key in original_names(head, names).values()
            }
        left = {key for key in state if not key.startswith("online_net.") or ".project." in key} - taken
        assert left == set(), model


def test_heads_of_dualvar_have_the_published_names_and_shapes():
    for model, entry in keys_of("dualvar").items():
        if not model.startswith("heads_"):
            continue
        state = {key: torch.zeros(shape) for key, shape in entry["state_dict_without_backbone"]}
        series = next(value.shape for key, value in state.items() if re.match(r"series_proj_head(_q)?\.2\.w", key))
        heads = {
            "projection": MLPHead(512, 128, hidden_dim=512, normalize=True),
            "segments": MLPHead(512, series[0], hidden_dim=512, segments=int(model[-1]), normalize=True),
        }
        if any(key.startswith("encoder_k") for key in state):
            heads |= {f"momentum_{role}": head for role, head in heads.items()}
        found_keys = sum(len(head_state(head, state, layout="dualvar", role=role)) for role, head in heads.items())
        assert found_keys == sum("queue" not in key for key in state), model
