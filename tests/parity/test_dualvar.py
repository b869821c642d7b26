"""DualVar's losses, training steps and gathers over ranks beside what its release computed."""

import numpy as np
import pytest
import torch
from torch import nn

from engine.features import SplitFeatures
from engine.retrieval import cosine_similarity, topk_hits
from models.backbone import Backbone
from models.heads.layouts import HEADS, original_names
from models.heads.side_by_side import SideBySide
from models.losses.cross_view_nce import softmax_nce
from models.losses.nt_xent import nt_xent_logits
from models.losses.queue_nce import queue_logits
from models.losses.segment_ranking import in_first_order, segment_ranking, twin_logits
from models.method import DatasetFacts
from models.methods.dualvar import DualVar
from models.momentum import MomentumNetwork
from models.planners.segments import SegmentPlanner
from models.queue import FeatureQueue
from models.views import reorder_chunks
from pipelines.batch import ViewBatch
from tests.engine.ranks import Ranks
from tests.parity.recorded import backbone_module, filled_log_variance, found, load, name, near, normal_input

RELEASE_BOUND = 5.0
"""Of ranking margins, in the release's models on SimCLR."""


def cases(z, suffix):
    return sorted(key.removesuffix(suffix) for key in z if key.endswith(suffix))


def leaf(array):
    return torch.from_numpy(array).double().requires_grad_()


def check(loss, feature, z, case):
    near(loss.detach().numpy(), z[f"{case}_loss"])
    loss.backward()
    near(feature.grad.numpy(), z[f"{case}_grad"])


@pytest.mark.parametrize("path", found("dualvar", "losses*.npz"), ids=name)
def test_contrasts_of_clips_and_of_segment_averages_are_those_of_the_release(path):
    z = load(path)
    for case in cases(z, "_T"):
        feature = leaf(z[f"{case}_feat"])
        views = feature.mean(dim=2) if feature.ndim == 4 else feature
        logits = nt_xent_logits(views, float(z[f"{case}_T"]))
        near(logits.detach().numpy(), z[f"{case}_logits"])
        check(softmax_nce(logits), feature, z, case)


@pytest.mark.parametrize("path", found("dualvar", "losses*.npz"), ids=name)
def test_rankings_of_both_carriers_are_those_of_the_release(path):
    z = load(path)
    assert cases(z, "_theta")
    for case in cases(z, "_theta"):
        for bound, theta, suffix in ((RELEASE_BOUND, float(z[f"{case}_theta"]), ""), (None, 0.05, "_moco")):
            feature = leaf(z[f"{case}_feat"])
            logits = twin_logits(*feature.unbind(dim=2), theta)
            near((logits.flatten(0, 1) * theta).detach().numpy(), z[f"{case}_logits"])
            loss = 0.5 * segment_ranking(logits, largest_margin=bound)
            near(loss.detach().numpy(), z[f"{case}{suffix}_loss"])
            loss.backward()
            near(feature.grad.numpy(), z[f"{case}{suffix}_grad"])


@pytest.mark.parametrize("path", found("dualvar", "losses*.npz"), ids=name)
def test_segment_averages_against_a_queue_are_those_of_the_release(path):
    z = load(path)
    assert cases(z, "_queue")
    for case in cases(z, "_queue"):
        query, key = (torch.from_numpy(z[f"{case}_{one}"]) for one in "qk")
        queue = torch.from_numpy(z[f"{case}_queue"].T).unflatten(1, query.shape[1:])
        logits = queue_logits(*(one.mean(dim=1) for one in (query, key, queue)), temperature=0.07)
        near(logits.numpy(), z[f"{case}_logits"])
        near(softmax_nce(logits).numpy(), z[f"{case}_loss"])


@pytest.mark.parametrize("path", found("dualvar", "losses*.npz"), ids=name)
def test_queues_momentum_and_orders_of_segments_are_those_of_the_release(path):
    z = load(path)
    for first, keys, after in (
        ("queue_init", "queue_keys", "queue_after"),
        ("series_queue_init", "queue_series_keys", "series_queue_after"),
    ):
        queue = FeatureQueue(*z[first].T.shape, generator=torch.Generator())
        queue.rows.copy_(torch.from_numpy(z[first].T))
        for pushed, expected, pointer in zip(z[keys], z[after], z["queue_ptr_after"], strict=True):
            queue.push(torch.from_numpy(pushed))
            assert np.array_equal(queue.rows.numpy().T, expected)
            assert queue.pointer == pointer
    online = nn.Linear(*z["ema_q_w"].shape[::-1], bias=False)
    online.weight.data = torch.from_numpy(z["ema_k_w0"])
    follower = MomentumNetwork(online, momentum=float(z["ema_m"]))
    online.weight.data = torch.from_numpy(z["ema_q_w"])
    for expected in z["ema_k_w_after"]:
        follower.follow(online)
        near(follower.network.weight.numpy(), expected)
    order = torch.from_numpy(z["shuffle_perm"])
    clips = torch.from_numpy(z["shuffle_in"])[:, None, :, None, None]
    assert np.array_equal(reorder_chunks(clips, order).flatten(1).numpy(), z["shuffle_out"])
    assert np.array_equal(in_first_order(torch.from_numpy(z["calib_in"]), order).numpy(), z["calib_out"])


def recorded_method(z, **settings):
    """The method with the filled weights, and its trained parameters by the names of the release."""
    recorded = str(z["backbone"])
    module = backbone_module(recorded) or backbone_module(recorded.removesuffix("18"))
    (kind,) = (
        value for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Backbone) and value.__module__ == module.__name__
    )  # fmt: skip
    method = DualVar(
        DatasetFacts(1),
        kind(),
        mode=str(z["mode"]),
        clip=SegmentPlanner(num_frames=int(z["x_shape"][3]), num_segments=int(z["num_segments"])),
        segment_dim=int(z["segment_dim"]),
        **settings,
    )
    layout = module.LAYOUTS["dualvar"]
    names = {key: f"encoder_q.0.{layout(key)}" for key in method.backbone.state_dict()}
    parameters = fill(method.backbone, names)
    for ours, role in (("clip", "projection"), ("segments", "segments")):
        head = method.heads[ours]
        # Of the two names of the segment head the second is that of the models on MoCo.
        layers = HEADS["dualvar"][role][-1 if settings["framework"] == "moco" else 0]
        parameters |= fill(head, original_names(head, layers))
    return method.train(), parameters


def fill(module, names):
    state = module.state_dict()
    module.load_state_dict(
        {key: torch.from_numpy(filled_log_variance(names[key], state[key].shape)) for key in names}
    )  # fmt: skip
    return {names[key]: value for key, value in module.named_parameters()}


def recorded_batch(z, seed, order):
    clips = normal_input(tuple(z["x_shape"]), int(seed))
    return ViewBatch(clips.unbind(dim=1), torch.arange(len(clips)), {"segment_order": torch.from_numpy(order).long()})


ON_SIMCLR = {
    "clip": "clip_contrast_loss",
    "coherent": "tc_contrast_loss",
    "rank_first": "aug_ranking_margin_contrast_loss",
    "rank_third": "unaug_ranking_margin_contrast_loss",
}
# The names of the rankings are swapped between the carriers.
ON_MOCO = ON_SIMCLR | {"rank_first": ON_SIMCLR["rank_third"], "rank_third": ON_SIMCLR["rank_first"]}


@pytest.mark.parametrize("path", found("dualvar", "simclr_step*.npz"), ids=name)
def test_losses_and_gradients_of_a_step_on_simclr_are_those_of_the_release(path):
    z = load(path)
    method, parameters = recorded_method(z, framework="simclr", legacy_rank_clip=RELEASE_BOUND)
    losses = method(recorded_batch(z, z["x_seed"], z["perms"])).losses
    total = sum(losses.values())
    assert {ON_SIMCLR[ours] for ours in losses} == {key for key in z if key.endswith("contrast_loss")}
    for ours, loss in losses.items():
        np.testing.assert_allclose(loss.detach(), z[ON_SIMCLR[ours]], rtol=1e-4)
    np.testing.assert_allclose(total.detach(), z["total_loss"], rtol=1e-4)
    total.backward()
    norms = [float(parameters[key].grad.norm()) for key in z["grad_norm_names"].tolist()]
    np.testing.assert_allclose(norms, z["grad_norms"], rtol=1e-4)


@pytest.mark.parametrize("path", found("dualvar", "moco_steps*.npz"), ids=name)
def test_training_steps_on_moco_are_those_of_the_release(path):
    z = load(path)
    method, _ = recorded_method(
        z,
        framework="moco",
        temperature=float(z["T"]),
        coherent_temperature=float(z["T"]),
        queue_size=z["queue_init"].shape[1],
        momentum=float(z["m"]),
    )
    follower = method.keys.encoder.network
    follower.backbone.load_state_dict(method.backbone.state_dict())
    follower.head.load_state_dict(method.heads.state_dict())
    queue = method.keys.queue
    queue.rows.copy_(torch.from_numpy(np.concatenate([z["queue_init"], z["series_queue_init"]]).T))
    optimizer = torch.optim.SGD(
        method.parameters(), lr=float(z["lr"]), momentum=float(z["momentum"]), weight_decay=float(z["weight_decay"])
    )
    names, tolerances = z["loss_names"].tolist(), [1e-4, 1e-3, 3e-2]
    for step, (seed, order) in enumerate(zip(z["x_seeds"], z["perms"], strict=True)):
        losses = method(recorded_batch(z, seed, order)).losses
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        method.after_step()
        values = {ON_MOCO[ours]: loss.item() for ours, loss in losses.items()} | {"total": total.item()}
        assert values.keys() == set(names)
        expected = dict(zip(names, z["losses"][step], strict=True))
        assert values == pytest.approx(expected, rel=0, abs=tolerances[min(step, 2)])
        assert queue.pointer == z["ptr"][step]
    expected = np.concatenate([z["queue_after"], z["series_queue_after"]])
    np.testing.assert_allclose(queue.rows.numpy().T, expected, rtol=0, atol=1e-3)


class Recorded(Backbone):
    """Gives features as they come, so that a method works on recorded ones."""

    def __init__(self, out_dim):
        super().__init__()
        self.out_dim = self.in_channels = out_dim

    def parts(self):
        return (nn.Identity(),)


class Columns(nn.Module):
    """Some of the features, as an embedding of the shape that was recorded."""

    def __init__(self, columns, shape):
        super().__init__()
        self.columns, self.out_shape = columns, torch.Size(shape)

    def forward(self, features):
        return features[:, self.columns].unflatten(1, self.out_shape)


def _gathered(world, path, legacy):
    """Losses and the gradients of the features, of one rank."""
    z = load(path)
    clip, segments = (torch.from_numpy(z[f"{kind}_feat"][world.rank]).double() for kind in ("clip", "tc"))
    width, size = clip.shape[2], clip.shape[2] + segments[0, 0].numel()
    method = DualVar(
        DatasetFacts(1),
        Recorded(size),
        mode="clip-tc",
        clip=SegmentPlanner(num_segments=segments.shape[2]),
        temperature=float(z["T"]),
        coherent_temperature=float(z["T"]),
        legacy_gather=legacy,
    )
    method.heads = SideBySide(
        {
            "clip": Columns(slice(0, width), (width,)),
            "segments": Columns(slice(width, size), segments.shape[2:]),
        }
    )
    features = torch.cat([clip, segments.flatten(2)], dim=2).requires_grad_()
    views = features[..., None, None, None].unbind(dim=1)
    losses = method(ViewBatch(views, torch.arange(len(clip)))).losses
    sum(losses.values()).backward()
    clip_grad, tc_grad = features.grad.split([width, size - width], dim=2)
    return losses["clip"].item(), losses["coherent"].item(), clip_grad.tolist(), tc_grad.tolist()


def _queued(world, path):
    z = load(path)
    keys = torch.from_numpy(z["queue_keys"][world.rank])
    queue = FeatureQueue(z["queue"].shape[2], keys.shape[1], generator=torch.Generator())
    queue.push(keys)
    return queue.rows.T.tolist(), int(queue.pointer)


@pytest.mark.parametrize("path", found("dualvar", "multirank*.npz"), ids=name)
def test_losses_gradients_and_queues_of_several_ranks_are_those_of_the_release(path):
    z = load(path)
    ranks = int(z["world"])
    group = Ranks(ranks)
    try:
        legacy, exact = (group.run(_gathered, path, legacy) for legacy in (True, False))
        queues = group.run(_queued, path)
    finally:
        group.stop()
    for place, task in enumerate(("clip", "tc")):
        for ours, suffix in ((legacy, ""), (exact, "_global")):
            losses, gradients = (np.array([one[place + shift] for one in ours]) for shift in (0, 2))
            expected = z[f"{task}{suffix}_grad"]
            if suffix:
                # DDP makes of the ranks' gradients that of the mean of their losses.
                losses, gradients = losses.mean(), gradients / ranks
            near(losses, z[f"{task}{suffix}_loss"])
            near(gradients.reshape(expected.shape), expected)
    filled = ranks * z["queue_keys"].shape[1]
    for (rows, pointer), expected, place in zip(queues, z["queue"], z["ptr"], strict=True):
        assert np.array_equal(np.array(rows, dtype=np.float32)[:, :filled], expected[:, :filled])
        assert pointer == place


@pytest.mark.parametrize("path", found("dualvar", "samplers*.npz"), ids=name)
def test_retrieval_subtracts_from_each_split_its_own_mean_as_the_release(path):
    z = load(path)
    splits = {
        split: SplitFeatures(*(torch.from_numpy(z[f"ret_{split}_{kind}"]) for kind in ("feat", "label")))
        for split in ("test", "train")
    }
    query, gallery = (splits[split].centred() for split in ("test", "train"))
    near(cosine_similarity(query.values, gallery.values).numpy().astype(np.float32), z["ret_sim"])
    ks = (1, 5, 10, 20, 50)
    hits = topk_hits(query.values, query.labels.long(), gallery.values, gallery.labels.long(), ks)
    rates = np.array([hits[k] / len(query.labels) for k in ks])
    np.testing.assert_allclose(rates, z["ret_topk_acc"] / (100 if z["ret_topk_acc"].max() > 1 else 1), atol=1e-6)
    mean = splits["train"].values.mean(dim=0)  # one mean for both is another protocol
    other = cosine_similarity(splits["test"].values, splits["train"].values, mean=mean)
    assert float((other - torch.from_numpy(z["ret_sim"])).abs().max()) > 1e-3
