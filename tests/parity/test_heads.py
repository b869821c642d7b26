"""Heads against recorded outputs of the releases, on recorded features where a file holds them."""

import json
import re

import numpy as np
import pytest
import torch

from models.heads.classifiers import LinearClassifier
from models.heads.embedding import MLPHead, UnitFeatures
from models.heads.layouts import HEADS, head_state, original_names
from tests.parity.recorded import filled, filled_log_variance, found, load, name, vectors_root

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


@pytest.mark.parametrize("path", found("cstp", "backbones*.npz"), ids=name)
def test_projections_of_cstp_are_those_of_the_release(path):
    z = load(path)
    keys = json.loads((vectors_root() / "cstp" / "keys.json").read_text())
    models = cases(z, "_online_eval_1")
    assert models
    for model in models:
        shapes = dict(keys[model]["state_dict_without_target_net"])
        hidden, features = shapes["online_net.project.net.0.weight"]
        head = MLPHead(features, shapes["online_net.project.net.3.weight"][0], hidden_dim=hidden, batch_norm=True)
        fill(head, "cstp", "projector", filled_log_variance)
        projected = head(torch.from_numpy(z[f"{model}_online_eval_0"])).detach().numpy()
        expected = z[f"{model}_online_eval_1"]
        np.testing.assert_allclose(projected, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.skipif(not (vectors_root() / "cstp" / "keys.json").is_file(), reason="keys.json is not there")
def test_heads_of_cstp_have_the_published_names_and_shapes():
    for model, entry in json.loads((vectors_root() / "cstp" / "keys.json").read_text()).items():
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


@pytest.mark.skipif(not (vectors_root() / "dualvar" / "keys.json").is_file(), reason="keys.json is not there")
def test_heads_of_dualvar_have_the_published_names_and_shapes():
    for model, entry in json.loads((vectors_root() / "dualvar" / "keys.json").read_text()).items():
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
