"""The plain methods: SimCLR, MoCo, BYOL, and training on labels."""

import functools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from data_process.errors import InputError
from data_process.records import VideoRecord
from models.backbones.r3d import R3D
from models.method import DatasetFacts
from models.methods.byol import BYOL
from models.methods.moco import MoCo
from models.methods.simclr import SimCLR
from models.methods.supervised import Supervised
from models.planners.single_clip import ClipDraw
from models.planners.views import AUGMENTED_CLIP, ViewsPlanner
from pipelines.batch import ViewBatch
from tests.engine.ranks import Ranks
from tests.models.global_batch import Plain, assert_ranks_train_as_one, clips_of

FACTS = DatasetFacts(20, 3, num_steps=4)
CLIP = ClipDraw(num_frames=4, size=8, resize=(8, 12))


def build(kind, **settings):
    torch.manual_seed(0)
    return kind(FACTS, Plain(), clip=CLIP, **settings).double()


def batch_of(seed, *, views=2, samples=8):
    rng = torch.Generator().manual_seed(100 + seed)
    index = torch.randperm(20, generator=rng)[:samples]
    return ViewBatch(clips_of(seed, views=views, samples=samples), index, {"label": index % 3})


METHODS = {
    "simclr": (functools.partial(build, SimCLR), 2),
    "moco": (functools.partial(build, MoCo, queue_size=20, momentum=0.9), 2),
    "moco_symmetric": (functools.partial(build, MoCo, queue_size=13, momentum=0.9, symmetric=True), 2),
    "byol": (functools.partial(build, BYOL, projection_dim=5, hidden_dim=7, batch_norm=False, momentum=0.9), 2),
    "byol_rising": (
        functools.partial(
            build, BYOL, projection_dim=5, hidden_dim=7, batch_norm=False, momentum=0.9, momentum_schedule="cosine"
        ),
        2,
    ),
    "supervised": (functools.partial(build, Supervised, dropout=0.0, label_smoothing=0.1), 1),
}


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request):
    group = Ranks(request.param)
    yield group
    group.stop()


@pytest.mark.parametrize("name", METHODS)
def test_ranks_train_as_one_process_does(ranks, name):
    made, views = METHODS[name]
    assert_ranks_train_as_one(ranks, made, functools.partial(batch_of, views=views))


@pytest.mark.parametrize("name", METHODS)
def test_losses_fall_on_one_batch(name):
    made, views = METHODS[name]
    method, batch = made(), batch_of(0, views=views)
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.03)
    seen = []
    for _ in range(40):
        (loss,) = method(batch).losses.values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # and no more: a queue would fill with this very batch
        seen.append(loss.item())
    assert seen[-1] < 0.9 * seen[0]


@pytest.mark.parametrize("name", METHODS)
def test_metrics_are_detached_and_finite_for_a_batch_of_one_too(name):
    made, views = METHODS[name]
    method = made()
    output = method(batch_of(0, views=views, samples=1))
    assert all(not value.requires_grad and value.ndim == 0 for value in output.metrics.values())
    assert all(math.isfinite(value) for value in output.metrics.values())
    assert 0 <= output.metrics["feature_spread"] <= 1.001


def unit(x):
    return functional.normalize(x, dim=1)


def test_simclr_equals_a_slow_version():
    method, batch = build(SimCLR, temperature=0.2), batch_of(3)
    clips = torch.cat([torch.stack([one[b] for one in batch.clips]) for b in range(8)])  # the two views side by side
    embeddings = unit(method.projector(method.backbone.pooled(clips))).detach()
    expected = 0.0
    for row in range(16):
        scores = [float(embeddings[row] @ embeddings[other]) / 0.2 for other in range(16)]
        others = sum(math.exp(score) for other, score in enumerate(scores) if other != row)
        expected -= math.log(math.exp(scores[row ^ 1]) / others) / 16
    assert method(batch).losses["contrast"].item() == pytest.approx(expected, rel=1e-12)


def test_moco_equals_a_slow_version_over_several_steps():
    method = build(MoCo, queue_size=10, momentum=0.5, temperature=0.2)
    rows = method.keys.queue.rows.clone()
    query = build(MoCo, queue_size=10)
    key = build(MoCo, queue_size=10)
    for seed in range(3):
        batch = batch_of(seed)
        with torch.no_grad():
            queries = unit(query.projector(query.backbone.pooled(batch.clips[0])))
            keys = unit(key.projector(key.backbone.pooled(batch.clips[1])))
        expected = 0.0
        for q, k in zip(queries, keys, strict=True):
            scores = [float(q @ k) / 0.2, *(float(q @ row) / 0.2 for row in rows)]
            expected -= math.log(math.exp(scores[0]) / sum(map(math.exp, scores))) / 8
        loss = method(batch).losses["contrast"]
        assert loss.item() == pytest.approx(expected, rel=1e-12)
        loss.backward()
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.requires_grad:
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
        method.after_step()
        for place, k in enumerate(keys):
            rows[(8 * seed + place) % 10] = k
        torch.testing.assert_close(method.keys.queue.rows, rows)
        with torch.no_grad():
            for mine, theirs in ((query.backbone, method.backbone), (query.projector, method.projector)):
                for old, new in zip(mine.parameters(), theirs.parameters(), strict=True):
                    old.copy_(new)
            for slow, fast in ((key.backbone, query.backbone), (key.projector, query.projector)):
                for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                    old.copy_(0.5 * old + 0.5 * new)


def test_byol_predicts_what_the_target_makes_of_the_other_view():
    method, batch = build(BYOL, projection_dim=5, hidden_dim=7, momentum=0.9), batch_of(1)
    for parameter in method.target.network.head.parameters():
        parameter += 0.1
    output = method(batch)
    expected = 0.0
    for one, other in ((0, 1), (1, 0)):
        predictions = method.predictor(method.projector(method.backbone.pooled(batch.clips[one]))).detach()
        targets = method.target.network(batch.clips[other])
        for prediction, target in zip(predictions, targets, strict=True):
            cosine = float(prediction @ target) / float(prediction.norm() * target.norm())
            expected += (2 - 2 * cosine) / 8
    assert output.losses["regression"].item() == pytest.approx(expected, rel=1e-10)
    output.losses["regression"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters() if p.requires_grad)
    assert not any(p.requires_grad for p in method.target.parameters())


def test_byols_target_follows_ever_less_where_its_momentum_rises():
    method = build(BYOL, projection_dim=5, hidden_dim=7, momentum=0.6, momentum_schedule="cosine")
    for momentum in (0.6, 1 - 0.2 * (1 + 0.5**0.5), 0.8, 1 - 0.2 * (1 - 0.5**0.5), 1.0, 1.0):
        assert method(batch_of(0)).metrics["target_momentum"].item() == pytest.approx(momentum)
        old = [parameter.clone() for parameter in method.target.parameters()]
        with torch.no_grad():
            for parameter in (*method.backbone.parameters(), *method.projector.parameters()):
                parameter += 1.0
        online = [*method.backbone.parameters(), *method.projector.parameters()]
        method.after_step()
        for before, goal, now in zip(old, online, method.target.parameters(), strict=True):
            torch.testing.assert_close(now, momentum * before + (1 - momentum) * goal)
    assert not any("rise" in name for name in build(BYOL).state_dict())


def test_supervised_needs_labels():
    with pytest.raises(ValueError, match="at least two classes"):
        Supervised(DatasetFacts(5), Plain())
    planner = build(Supervised).planner()
    with pytest.raises(InputError, match="v7 has no label"):
        planner(np.random.default_rng(0), VideoRecord("v7", -1, "train", "jpeg", 30, 25.0, 32, 40))


@pytest.mark.parametrize("same_frames", [True, False])
def test_views_are_cut_and_coloured_apart_and_share_frames_where_asked(same_frames):
    planner = ViewsPlanner(AUGMENTED_CLIP, same_frames=same_frames, labelled=True)
    plans = [
        planner(np.random.default_rng(seed), VideoRecord("v", 2, "train", "jpeg", 300, 25.0, 240, 320))
        for seed in range(20)
    ]
    assert all(plan.targets["label"] == 2 for plan in plans)
    assert sum(plan.clips[0].box != plan.clips[1].box for plan in plans) > 15
    assert sum(plan.clips[0].photometric != plan.clips[1].photometric for plan in plans) > 10
    shared = sum(plan.clips[0].frames == plan.clips[1].frames for plan in plans)
    assert shared == 20 if same_frames else shared < 3
    assert all(plan.clips[0].operations <= AUGMENTED_CLIP.operations for plan in plans)


@pytest.mark.parametrize("kind", [SimCLR, MoCo, BYOL, Supervised])
def test_bfloat16_stays_near_float32(kind):
    torch.manual_seed(0)
    settings = {"dropout": 0.0} if kind is Supervised else {}
    settings |= {"queue_size": 16} if kind is MoCo else {}
    settings |= {"hidden_dim": 16, "batch_norm": False} if kind is BYOL else {}
    method = kind(FACTS, R3D(width=4), clip=ClipDraw(num_frames=8, size=32, resize=(36, 48)), **settings)
    views = clips_of(0, samples=4, views=1 if kind is Supervised else 2, frames=8, side=32)
    batch = ViewBatch(tuple(clips.float() for clips in views), torch.arange(4), {"label": torch.arange(4) % 3})
    (exact,) = method(batch).losses.values()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (rough,) = method(batch).losses.values()
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.1)
