"""CSTP's losses against loops, its target, its tasks one by one, and its steps on several ranks against one."""

import itertools
import math

import pytest
import torch
from torch import nn

from data_process.errors import InputError
from data_process.records import VideoRecord
from models.backbone import Backbone
from models.backbones.r3d import R3D
from models.method import DatasetFacts
from models.methods.cstp import CSTP, TaskWeights
from models.planners.overlap import OverlapPlanner
from models.sync_norm import synchronise_norms
from pipelines.batch import ViewBatch
from pipelines.draw import TemporalOverlap
from pipelines.plan import sample_rng
from tests.engine.ranks import Ranks

TASKS = ("byol", "spatial", "temporal", "playback", "rotation")
CLIP = OverlapPlanner(size=8, temporal=TemporalOverlap(num_frames=4))
SMALL = {"clip": CLIP, "projector_dim": 7, "predictor_dim": 9}


class Plain(Backbone):
    """A network without batch norm, so that ranks do not see each other's statistics."""

    def __init__(self):
        super().__init__()
        self.out_dim = 6
        self.conv = nn.Conv3d(3, 6, 3, stride=2, padding=1)

    def parts(self):
        return self.conv, nn.ReLU()


def build(*, width=0, **settings):
    """The method with the same weights every time, on R3D of a width or on `Plain`."""
    torch.manual_seed(0)
    return CSTP(DatasetFacts(9, num_steps=4), R3D(width=width) if width else Plain(), **(SMALL | settings))


def make_batch(size=4, frames=4, side=8, seed=0):
    rng = torch.Generator().manual_seed(seed)

    def labels(classes, *shape):
        return torch.randint(0, classes, (size, *shape), generator=rng)

    targets = {
        "spatial": labels(5), "temporal": labels(5), "playback": labels(4), "turns": labels(4, 2),
        "spatial_overlap": torch.ones(size), "temporal_overlap": torch.ones(size),
    }  # fmt: skip
    clips = tuple(torch.randn(size, 3, frames, side, side, generator=rng) for _ in range(2))
    return ViewBatch(clips, torch.arange(size), targets)


def as_double(batch):
    return ViewBatch(tuple(clips.double() for clips in batch.clips), batch.index, batch.targets)


def slow_cross_entropy(logits, labels):
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total += math.log(sum(math.exp(value) for value in row)) - row[label]
    return total / len(labels)


@pytest.mark.parametrize("mlp_heads", [True, False])
@pytest.mark.parametrize("normalize_features", [True, False])
@torch.no_grad()
def test_losses_equal_a_slow_version(mlp_heads, normalize_features):
    weights = TaskWeights(byol=0.1, spatial=2.0, temporal=3.0, playback=5.0, rotation=7.0)
    method = build(weights=weights, mlp_heads=mlp_heads, normalize_features=normalize_features).double()
    batch = as_double(make_batch())
    losses = method(batch).losses
    one, two = (method.backbone.pooled(clips) for clips in batch.clips)
    if normalize_features:
        one, two = one / one.norm(dim=1, keepdim=True), two / two.norm(dim=1, keepdim=True)
    both, heads, targets = torch.cat([one, two], dim=1), method.heads, batch.targets
    turns = targets["turns"]
    expected = {
        "spatial": 2 * slow_cross_entropy(heads["spatial"](both), targets["spatial"]),
        "temporal": 3 * slow_cross_entropy(heads["temporal"](both), targets["temporal"]),
        "playback": 5 * sum(slow_cross_entropy(heads["playback"](x), targets["playback"]) for x in (one, two)),
        "rotation": 7 * sum(slow_cross_entropy(heads["rotation"](x), turns[:, i]) for i, x in enumerate((one, two))),
    }
    predicted = [method.predictor(method.projector(x)) for x in (one, two)]
    projected = [method.projector(x) for x in (one, two)]  # the target starts as a copy
    pairs = zip((*predicted[0], *predicted[1]), (*projected[1], *projected[0]), strict=True)
    expected["byol"] = 0.1 / 4 * sum(2 - 2 * float(p @ t / (p.norm() * t.norm())) for p, t in pairs)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize(
    "chosen", [some for n in range(1, 6) for some in itertools.combinations(TASKS, n)], ids="+".join
)
def test_any_tasks_train_alone_or_together_and_the_others_leave_nothing_behind(chosen):
    method = build(weights=TaskWeights(**{name: float(name in chosen) for name in TASKS}))
    output = method(make_batch())
    assert set(output.losses) == set(chosen)
    sum(output.losses.values()).backward()
    method.after_step()
    trained = [name for name, parameter in method.named_parameters() if parameter.requires_grad]
    assert all(method.get_parameter(name).grad.abs().sum() > 0 for name in trained)
    assert set(method.heads) == set(chosen) - {"byol"}
    assert ("byol" in chosen) == any(name.startswith(("target", "predictor")) for name in method.state_dict())
    assert all(math.isfinite(value) for value in output.metrics.values())
    for name in set(chosen) - {"byol"}:
        assert 0 <= output.metrics[f"{name}_balanced"] <= 1


def test_plans_of_the_planner_are_what_the_losses_ask_for():
    method = build(width=2, clip=OverlapPlanner(size=16))
    video = VideoRecord("v", 0, "train", "jpeg", 300, 25.0, 240, 320)
    plans = [method.planner()(sample_rng(0, 0, index), video) for index in range(6)]
    for plan in plans:
        method.clip_format.check(plan)
    targets = {name: torch.stack([torch.from_numpy(plan.targets[name]) for plan in plans]) for name in plans[0].targets}
    clips = tuple(torch.randn(6, 3, 16, 16, 16) for _ in range(2))
    output = method(ViewBatch(clips, torch.arange(6), targets))
    shares = [output.metrics[f"spatial_share_{percent}"].item() for percent in (100, 80, 60, 40, 20)]
    counted = [sum(int(plan.targets["spatial"]) == label for plan in plans) / 6 for label in range(5)]
    assert shares == pytest.approx(counted)


def test_batch_norms_see_one_clip_of_each_video_at_a_time():
    method = build(width=2)
    method(make_batch(frames=8, side=16))
    norms = [module for module in method.backbone.modules() if isinstance(module, nn.BatchNorm3d)]
    assert {int(norm.num_batches_tracked) for norm in norms} == {2}
    targets = [module for module in method.target_backbone.modules() if isinstance(module, nn.BatchNorm3d)]
    assert {int(norm.num_batches_tracked) for norm in targets} == {2}


def test_the_target_starts_as_a_copy_follows_slowly_and_is_kept_in_checkpoints():
    method = build(momentum=0.75)
    before = method.target_backbone.network.conv.weight.clone()
    assert torch.equal(before, method.backbone.conv.weight)
    sum(method(make_batch()).losses.values()).backward()
    assert all(parameter.grad is None for parameter in method.target_backbone.parameters())
    with torch.no_grad():
        method.backbone.conv.weight += 1.0
        method.projector.out.bias += 2.0
    method.after_step()
    torch.testing.assert_close(method.target_backbone.network.conv.weight, before + 0.25)
    bias = method.projector.out.bias - 1.5
    torch.testing.assert_close(method.state_dict()["target_projector.network.out.bias"], bias)


@pytest.mark.parametrize("legacy_init", [False, True])
def test_a_momentum_that_rises_holds_for_all_of_the_target(legacy_init):
    method = build(momentum=0.6, momentum_schedule="cosine", legacy_init=legacy_init)
    pairs = [(method.target_backbone, method.backbone), (method.target_projector, method.projector)]
    for momentum in (0.6, 1 - 0.2 * (1 + 0.5**0.5), 0.8, 1 - 0.2 * (1 - 0.5**0.5), 1.0):
        assert method(make_batch()).metrics["target_momentum"].item() == pytest.approx(momentum)
        old = [[parameter.clone() for parameter in target.parameters()] for target, _ in pairs]
        with torch.no_grad():
            for _, online in pairs:
                for parameter in online.parameters():
                    parameter += 1.0
        method.after_step()
        for before, (target, online) in zip(old, pairs, strict=True):
            for one, now, goal in zip(before, target.parameters(), online.parameters(), strict=True):
                torch.testing.assert_close(now, momentum * one + (1 - momentum) * goal)
    assert not any("rise" in name for name in build().state_dict())


def test_the_releases_first_weights_have_scales_around_zero_and_a_target_of_its_own():
    method = build(width=4, legacy_init=True, momentum=0.5)
    for network in (method.backbone, method.target_backbone.network, method.predictor, method.heads["spatial"]):
        scales = torch.cat([m.weight for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm3d)])
        assert (scales < 0).any()
        assert (scales > 0).any()
    assert method.target_backbone.distance(method.backbone) > 0.1
    ours = build(width=4)
    assert ours.target_backbone.distance(ours.backbone) == 0
    assert all((m.weight == 1).all() for m in ours.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm3d))


def test_tasks_are_learned_on_one_batch():
    method = build(width=4)
    batch = make_batch(size=8, frames=8, side=16)
    optimizer = torch.optim.Adam([one for one in method.parameters() if one.requires_grad], lr=0.003)
    history = []
    for _ in range(40):
        output = method(batch)
        history.append({name: value.item() for name, value in output.losses.items()})
        optimizer.zero_grad()
        sum(output.losses.values()).backward()
        optimizer.step()
        method.after_step()
    assert all(history[-1][name] < 0.5 * history[0][name] for name in TASKS if name != "byol"), history[-1]
    assert output.metrics["rotation_accuracy"] > 0.9
    assert output.metrics["rotation_balanced"] < output.metrics["rotation_accuracy"], "it remembers the first answers"


def test_bfloat16_stays_near_float32():
    exact, rough = (build(width=4) for _ in range(2))
    batch = make_batch(size=16, frames=8, side=16)
    expected = exact(batch).losses
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = rough(batch).losses
    for name, value in expected.items():
        assert losses[name].dtype == torch.float32
        assert losses[name].item() == pytest.approx(value.item(), rel=0.02)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"clip": OverlapPlanner(turn=False)}, "rotation"),
        ({"clip": OverlapPlanner(temporal=TemporalOverlap(rates=(2,)))}, "playback"),
        ({"momentum": 1.5}, "momentum"),
        ({"momentum_schedule": "cosine", "weights": TaskWeights(byol=0.0)}, "about the target of BYOL"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        build(**settings)


@pytest.mark.parametrize("wrong", [dict.fromkeys(TASKS, 0.0), {"spatial": -1.0}])
def test_weights_that_train_nothing_or_backwards_are_refused(wrong):
    with pytest.raises(ValueError, match="weights must not be negative"):
        TaskWeights(**wrong)


def test_a_single_sample_a_rank_is_refused_with_what_to_change():
    with pytest.raises(InputError, match=r"train\.global_batch"):
        build()(make_batch(size=1))
    build().eval()(make_batch(size=1))


def _five_steps(rank, world_size):
    """Losses, gradients and the state after five steps on this rank's part of the batches, in float64."""
    method = build(legacy_init=True, momentum=0.9).double()
    synchronise_norms(method)  # as train.sync_batch_norm does; by default heads normalise over a rank's own samples
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
    losses, gradients = [], []
    for step in range(5):
        whole = as_double(make_batch(size=8, seed=step))
        mine = slice(rank * 8 // world_size, (rank + 1) * 8 // world_size)
        part = ViewBatch(
            tuple(clips[mine] for clips in whole.clips),
            whole.index[mine],
            {name: value[mine] for name, value in whole.targets.items()},
        )
        output = method(part)
        optimizer.zero_grad()
        sum(output.losses.values()).backward()
        row = torch.stack([output.losses[name].detach() for name in TASKS])
        for tensor in (row, *(parameter.grad for parameter in trained)):
            if world_size > 1:
                torch.distributed.all_reduce(tensor)
                tensor /= world_size
        losses.append(row)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in trained]))
        optimizer.step()
        method.after_step()
    state = {name: value.double() for name, value in method.state_dict().items()}
    return torch.stack(losses), torch.stack(gradients), state


def _on_a_rank(world):
    losses, gradients, state = _five_steps(world.rank, world.world_size)
    return losses.tolist(), gradients.tolist(), {name: value.tolist() for name, value in state.items()}


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request):
    group = Ranks(request.param)
    yield group
    group.stop()


def test_ranks_give_the_losses_gradients_and_targets_of_one_process(ranks):
    losses, gradients, state = _five_steps(0, 1)
    exact = {"rtol": 1e-9, "atol": 1e-12}
    assert (losses[0] != losses[4]).all()
    for their_losses, their_gradients, their_state in ranks.run(_on_a_rank):
        torch.testing.assert_close(torch.tensor(their_losses, dtype=torch.float64), losses, **exact)
        torch.testing.assert_close(torch.tensor(their_gradients, dtype=torch.float64), gradients, **exact)
        assert their_state.keys() == state.keys()
        for name, value in state.items():
            torch.testing.assert_close(torch.tensor(their_state[name], dtype=torch.float64), value, **exact)
