"""Numbers recorded from CSTP's release, reproduced; tolerances are those of the vectors' README."""

import fnmatch
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engine.schedule import ScheduleConfig, build_schedule
from launch.config import load_run
from models.backbones import c3d, r21d
from models.heads.embedding import MLPHead, unit_length
from models.heads.layouts import HEADS, original_names
from models.losses.byol import symmetric_regression
from models.losses.cross_view_nce import softmax_nce
from models.losses.nt_xent import nt_xent_logits
from models.method import DatasetFacts
from models.methods.cstp import CSTP
from models.momentum import MomentumNetwork
from pipelines.batch import ViewBatch
from tests.parity.recorded import filled_log_variance, found, keys_of, load, name, normal_input

LOSSES = found("cstp", "losses*.npz")
MISC = found("cstp", "misc*.npz")
NETWORKS = {
    "r21d_byol": (r21d, r21d.R21D, {"legacy_classes": True}),
    "c3d_byol": (c3d, c3d.C3D, {"projector_dim": None, "mlp_heads": False}),
}
"""Module and class of the backbone, and settings of the method, of the recorded networks."""

RECIPES = Path(__file__).parents[2] / "configs" / "pretrain"

UNDERSTOOD = ("backbones*", "losses*", "misc*", "pixel_ops*")
"""Read here, by the tests of backbones and heads, of samplers and of pixel operations."""

ROLES = {
    "projector": "projector",
    "target_projector.network": "target_projector",
    "predictor": "predictor",
    "heads.spatial": "spatial_overlap",
    "heads.temporal": "temporal_overlap",
    "heads.playback": "playback",
    "heads.rotation": "rotation",
}
"""Part of our method to its role in `models.heads.layouts`."""


def fill_head(head, role):
    layers = {key.partition(".")[0] for key in head.state_dict()}
    names = next(names for names in HEADS["cstp"][role] if set(names) == layers)
    keys = original_names(head, names)
    shapes = {key: value.shape for key, value in head.state_dict().items()}
    head.load_state_dict({key: torch.from_numpy(filled_log_variance(keys[key], shapes[key])) for key in keys})


def recorded_method(model):
    """The published network with the values of the recipe; its target has names, and so values, of its own."""
    module, kind, settings = NETWORKS[model]
    method = CSTP(DatasetFacts(1), kind(), **settings)
    original = module.LAYOUTS["cstp"]
    for network, prefix in ((method.backbone, "online_net"), (method.target_backbone.network, "target_net")):
        state = network.state_dict().items()
        network.load_state_dict(
            {key: torch.from_numpy(filled_log_variance(f"{prefix}.{original(key)}", one.shape)) for key, one in state}
        )
    for part, role in ROLES.items():
        if isinstance(head := method.get_submodule(part), MLPHead):
            fill_head(head, role)
    return method


@pytest.mark.parametrize("path", found("cstp"), ids=name)
def test_every_recorded_file_is_understood(path):
    assert any(fnmatch.fnmatch(path.stem, pattern) for pattern in UNDERSTOOD), f"no test reads {path.name}"


@pytest.mark.parametrize("path", LOSSES, ids=name)
def test_the_regression_and_its_gradient_are_those_of_the_release(path):
    z = {key: torch.from_numpy(value) for key, value in load(path).items() if key.startswith("byol_")}
    p1 = z["byol_p1"].clone().requires_grad_()
    loss = symmetric_regression((p1, z["byol_p2"]), (z["byol_t1"], z["byol_t2"]))
    loss.backward()
    torch.testing.assert_close(loss.detach(), z["byol_per_sample"].mean(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(p1.grad, z["byol_grad_p1"], rtol=1e-4, atol=1e-7)
    for row, expected in enumerate(z["byol_per_sample"]):
        place = slice(row, row + 1)
        single = symmetric_regression(
            (z["byol_p1"][place], z["byol_p2"][place]), (z["byol_t1"][place], z["byol_t2"][place])
        )
        torch.testing.assert_close(single, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "model", sorted({key.split("_pred_")[0] for path in LOSSES for key in load(path) if "_pred_spa" in key})
)
@pytest.mark.parametrize("path", LOSSES, ids=name)
def test_a_whole_step_is_that_of_the_release(path, model):
    z = load(path)
    expected = {key.removeprefix(f"{model}_"): value for key, value in z.items() if key.startswith(model)}
    method = recorded_method(model.removeprefix("full_"))
    method.after_step()  # the release lets the target follow in front of its forward pass
    clips = tuple(normal_input(tuple(expected["x_shape"]), int(z[f"seed_x{clip}"])) for clip in (1, 2))
    labels = {key: torch.from_numpy(value) for key, value in expected.items() if key.startswith("label_")}
    targets = {
        "spatial": labels["label_spa"],
        "temporal": labels["label_tem"],
        "playback": labels["label_pb"],
        "turns": torch.stack([labels["label_rot1"], labels["label_rot2"]], dim=1),
    }
    assert list(z["loss_weight"]) == list(asdict(method.weights).values())
    output = method(ViewBatch(clips, torch.arange(len(clips[0])), targets))
    byol, spatial, temporal, playback1, playback2, rotation1, rotation2 = expected["terms"]
    terms = [z["loss_weight"][0] * byol, spatial, temporal, playback1 + playback2, rotation1 + rotation2]
    np.testing.assert_allclose([loss.item() for loss in output.losses.values()], terms, rtol=1e-4)
    total = sum(output.losses.values())
    assert total.item() == pytest.approx(float(expected["total"]), rel=1e-4)
    total.backward()
    norm = nn.utils.get_total_norm([one.grad for one in method.parameters() if one.grad is not None])
    assert norm.item() == pytest.approx(float(expected["total_grad_norm"]), rel=1e-3)
    first = next(method.target_backbone.parameters()).detach().numpy()
    np.testing.assert_allclose(first, expected["target_first_param_after"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("cstp_*.yaml")), ids=name)
def test_recipes_build_networks_of_the_published_sizes(recipe):
    network = recipe.stem.split("_")[1]
    counts = keys_of("cstp")[f"{network.removesuffix('g')}_byol"]
    method = load_run(recipe, ["--method.legacy_classes=true"]).build_method(DatasetFacts(1))
    parameters = list(method.parameters())
    assert sum(one.numel() for one in parameters) == counts["pretrain_params"]
    assert sum(one.numel() for one in parameters if one.requires_grad) == counts["pretrain_trainable"]


@pytest.mark.parametrize("path", MISC, ids=name)
def test_the_target_follows_as_in_the_release(path):
    z = {key: torch.from_numpy(np.asarray(value)) for key, value in load(path).items() if key.startswith("ema_")}
    rows, columns = z["ema_online"].shape
    online = nn.Sequential(nn.Linear(columns, rows, bias=False), nn.BatchNorm1d(rows))
    target = MomentumNetwork(online, momentum=float(z["ema_m"]))
    with torch.no_grad():
        online[0].weight.copy_(z["ema_online"])
        online[1].running_mean += 1.0
        target.network[0].weight.copy_(z["ema_target0"])
    statistics = target.network[1].running_mean.clone()
    for expected in z["ema_target_after"]:
        target.follow(online)
        torch.testing.assert_close(target.network[0].weight.detach(), expected, rtol=1e-6, atol=1e-7)
        assert torch.equal(target.network[1].running_mean, statistics), "it follows parameters alone"


@pytest.mark.parametrize("path", MISC, ids=name)
def test_its_unused_contrast_is_ours_within_a_rank_and_over_all(path):
    z = {key: torch.from_numpy(np.asarray(value)) for key, value in load(path).items() if key.startswith("ntx_")}
    z_i = z["ntx_zi"].clone().requires_grad_()
    views = unit_length(torch.stack([z["ntx_zj"], z_i], dim=1))
    temperature, ranks = float(z["ntx_T"]), int(z["ntx_world"])
    whole = softmax_nce(nt_xent_logits(views, temperature))
    assert whole.item() == pytest.approx(float(z["ntx_loss"]), rel=1e-5)
    places = [slice(start, start + len(views) // ranks) for start in range(0, len(views), len(views) // ranks)]
    # As published each rank knew its own rows only; with the gathered ones the mean over ranks is the whole loss.
    apart = [softmax_nce(nt_xent_logits(views[place], temperature)).item() for place in places]
    assert apart == pytest.approx(z["ntx_local_per_rank"].tolist(), rel=1e-5)
    together = torch.stack([softmax_nce(nt_xent_logits(views, temperature, place)) for place in places]).mean()
    assert together.item() == pytest.approx(float(z["ntx_global"]), rel=1e-5)
    together.backward()
    torch.testing.assert_close(z_i.grad, z["ntx_grad_zi"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("path", MISC, ids=name)
def test_learning_rates_are_those_of_the_release(path):
    z = load(path)
    names = [key for key in z if key.startswith("lr_")]
    assert names
    for key in names:
        epochs, highest = int(key.split("_")[1]), float(key.split("_")[2])
        steps = 7
        schedule = build_schedule(
            ScheduleConfig("rise_fall", final_lr=1e-5), base_lr=highest, num_steps=steps * epochs, steps_per_epoch=steps
        )
        for step in (0, steps - 1):
            rates = [schedule(epoch * steps + step) for epoch in range(epochs)]
            np.testing.assert_allclose(rates, z[key], rtol=1e-9, err_msg=key)
