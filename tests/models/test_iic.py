import functools
import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from data_process.records import VideoRecord
from models.backbones.r3d import R3D
from models.losses.cross_view_nce import bank_logits, binary_nce, softmax_nce
from models.memory_bank import MemoryBank
from models.method import DatasetFacts
from models.methods.iic import IIC, Framework
from models.planners.single_clip import ClipDraw, IntraNegative, moved_quadrants, swapped_chunks
from models.views import blurred, reorder_quadrants, repeat_frame, residual
from pipelines.batch import ViewBatch
from tests.engine.ranks import Ranks
from tests.models.global_batch import Plain, assert_ranks_train_as_one


@pytest.mark.parametrize(("batch", "columns", "dim"), [(1, 2, 3), (3, 7, 5), (4, 33, 16)])
def test_losses_equal_a_slow_version(batch, columns, dim):
    rng = torch.Generator().manual_seed(batch)
    features = torch.randn(batch, dim, generator=rng, dtype=torch.float64)
    rows = torch.randn(batch, columns, dim, generator=rng, dtype=torch.float64)
    logits = bank_logits(features, rows, 0.5)
    softmax, nce = 0.0, 0.0
    for b in range(batch):
        scores = [float(rows[b, c] @ features[b]) / 0.5 for c in range(columns)]
        softmax -= np.log(np.exp(scores[0]) / np.sum(np.exp(scores))) / batch
        noise, p = (columns - 1) / 11, np.exp(scores) / 50.0
        nce -= np.log(p[0] / (p[0] + noise + 1e-7)) / batch
        nce -= sum(np.log(noise / (q + noise + 1e-7)) for q in p[1:]) / batch
    assert softmax_nce(logits).item() == pytest.approx(softmax, rel=1e-12)
    assert binary_nce(logits.exp() / 50.0, 11).item() == pytest.approx(nce, rel=1e-12)


def test_the_loss_falls_when_the_positive_moves_closer():
    rows = torch.eye(4).expand(1, 4, 4)
    far, near = torch.tensor([[0.1, 0.0, 0.0, 0.9]]), torch.tensor([[0.9, 0.0, 0.0, 0.1]])
    assert softmax_nce(bank_logits(near, rows, 0.1)) < softmax_nce(bank_logits(far, rows, 0.1))


def test_of_a_row_named_twice_the_first_counts():
    bank = MemoryBank(5, 3, momentum=0.5, generator=torch.Generator().manual_seed(0))
    before = bank.rows.clone()
    features = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    bank.update(torch.tensor([3, 1, 3]), features)
    for row, feature in ((3, features[0]), (1, features[1])):
        mixed = 0.5 * before[row] + 0.5 * feature
        torch.testing.assert_close(bank.rows[row], mixed / mixed.norm())
    assert torch.equal(bank.rows[[0, 2, 4]], before[[0, 2, 4]])


def test_swapped_chunks_are_all_six_swaps_alike():
    rng = np.random.default_rng(0)
    drawn = [tuple(swapped_chunks(rng)) for _ in range(1200)]
    counts = {order: drawn.count(order) for order in set(drawn)}
    assert len(counts) == 6
    assert all(sum(a != b for a, b in zip(order, range(4), strict=True)) == 2 for order in counts)
    assert min(counts.values()) > 150  # 200 expected, standard deviation 13


def make_batch(size=3, frames=8, side=32, seed=0, num_rows=9, negatives=5, intra="repeat", views=1):
    rng = torch.Generator().manual_seed(seed)
    targets = {"negatives": torch.randint(0, num_rows, (size, negatives), generator=rng)}
    if intra == "repeat":
        targets["intra_frame"] = torch.randint(0, frames, (size,), generator=rng)
    elif intra == "shuffle":
        targets["intra_order"] = torch.tensor([[1, 0, 2, 3]]).expand(size, -1)
    elif intra == "quadrants":
        targets["intra_quadrants"] = torch.tensor([[1, 2, 3, 0]]).expand(size, -1)
    clips = tuple(torch.rand(size, 3, frames, side, side, generator=rng) for _ in range(views))
    return ViewBatch(clips, torch.arange(size), targets)


@pytest.mark.parametrize("intra", get_args(IntraNegative))
@pytest.mark.parametrize(
    ("framework", "second_view"),
    [(framework, view) for framework in get_args(Framework) for view in ("residual", "rgb")],
)
def test_gradient_reaches_every_parameter_and_batches_of_one_work(intra, framework, second_view):
    method = IIC(
        DatasetFacts(9),
        R3D(width=4),
        framework=framework,
        clip=ClipDraw(num_frames=8, size=32),
        intra_negative=intra,
        second_view=second_view,
        num_negatives=5,
    )
    for size in (1, 3):
        output = method(make_batch(size, intra=intra, views=method.clip_format.num_views))
        sum(output.losses.values()).backward()
        method.after_step()
        assert all(math.isfinite(value) for value in output.metrics.values())
        assert ("view2_own_intra_logit" in output.metrics) == (intra != "none")
    trained = [p for p in method.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    drawn = method.planner()(np.random.default_rng(0), VideoRecord("v", 0, "train", "jpeg", 40, 25.0, 48, 64))
    given = make_batch(1, intra=intra).targets
    assert drawn.targets.keys() == given.keys() - (set() if framework == "bank" else {"negatives"})
    assert all(drawn.targets[name].shape == given[name].shape[1:] for name in drawn.targets)


@pytest.mark.parametrize("component", ["flow-u", "flow-v"])
def test_the_second_view_may_be_stored_flow(component):
    torch.manual_seed(0)
    method = IIC(
        DatasetFacts(9), R3D(width=4), clip=ClipDraw(num_frames=8, size=32), num_negatives=5, second_view=component
    )
    assert method.clip_format.of_flow.modality == component
    batch = make_batch()
    flow, rows = torch.rand_like(batch.clips[0]), method.contrast.banks["view2"].rows[batch.index]
    losses = method(replace(batch, clips=(batch.clips[0], flow))).losses
    method.after_step()
    mixed = 0.5 * rows + 0.5 * method.backbone.pooled(flow).detach()
    stored = method.contrast.banks["view2"].rows[batch.index]
    torch.testing.assert_close(stored, torch.nn.functional.normalize(mixed, dim=1), rtol=1e-4, atol=1e-5)
    other = method(replace(batch, clips=(batch.clips[0], 1 - flow))).losses
    assert other["view2"] != losses["view2"]


@pytest.mark.parametrize("framework", get_args(Framework))
def test_flow_takes_the_place_of_residual_frames(framework):
    batch = _global_batch(3)
    residuals = _build(framework=framework)(batch)
    clips = batch.clips[0]
    flow = _build(framework=framework, second_view="flow-v")(replace(batch, clips=(clips, residual(clips))))
    assert flow.losses == residuals.losses
    assert flow.metrics == residuals.metrics


@pytest.mark.parametrize("framework", ["moco", "simclr"])
def test_a_second_rgb_view_is_the_same_frames_cut_once_more(framework):
    method = _build(framework=framework, second_view="rgb")
    record = VideoRecord("v", 0, "train", "jpeg", 40, 25.0, 48, 64)
    plans = [method.planner()(np.random.default_rng(seed), record) for seed in range(30)]
    for plan in plans:
        method.clip_format.check(plan)
        assert plan.clips[0].frames == plan.clips[1].frames
    # Five places across, for the one clip and for the other.
    assert 10 < sum(plan.clips[0].box != plan.clips[1].box for plan in plans) < 30
    assert len({plan.clips[0].frames for plan in plans}) > 10


@pytest.mark.parametrize("framework", ["moco", "simclr"])
def test_a_second_rgb_view_takes_the_place_of_residual_frames(framework):
    batch = _global_batch(3)
    clips = batch.clips[0]
    residuals = _build(framework=framework)(batch)
    rgb = _build(framework=framework, second_view="rgb")(replace(batch, clips=(clips, residual(clips))))
    assert rgb.losses == residuals.losses
    assert rgb.metrics == residuals.metrics


def test_bfloat16_stays_near_float32():
    method = IIC(DatasetFacts(9), R3D(width=4), clip=ClipDraw(num_frames=8, size=32), num_negatives=5)
    exact = method(make_batch()).losses
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = method(make_batch()).losses
    for name in exact:
        assert rough[name].dtype == torch.float32
        assert rough[name].item() == pytest.approx(exact[name].item(), rel=0.1)


def _build(**settings):
    torch.manual_seed(0)
    clip = ClipDraw(num_frames=4, size=8, resize=(8, 12))
    return IIC(DatasetFacts(9), Plain(), clip=clip, **{"num_negatives": 8, **settings}).double()


def _global_batch(seed, intra="repeat", views=1):
    given = make_batch(8, frames=4, side=8, seed=seed, intra=intra, views=views)
    return replace(given, clips=tuple(clips.double() for clips in given.clips))


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request):
    group = Ranks(request.param)
    yield group
    group.stop()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"softmax": False, "temperature": 1.0},
        {"framework": "moco", "key_momentum": 0.9, "intra_negative": "shuffle"},
        {"framework": "moco", "key_momentum": 0.9, "num_negatives": 11, "intra_negative": "none"},
        {"framework": "simclr"},
        {"framework": "simclr", "intra_negative": "quadrants"},
        {"framework": "simclr", "second_view": "rgb"},
        {"framework": "moco", "second_view": "rgb", "key_momentum": 0.9},
    ],
    ids=lambda value: " ".join(map(str, value.values())) or "published",
)
def test_ranks_train_as_one_process_does(ranks, settings):
    intra, views = settings.get("intra_negative", "repeat"), _build(**settings).clip_format.num_views
    batch_of = functools.partial(_global_batch, intra=intra, views=views)
    assert_ranks_train_as_one(ranks, functools.partial(_build, **settings), batch_of)


def cross_entropy(scores):
    return math.log(sum(map(math.exp, scores))) - scores[0]


def test_on_simclr_the_loss_is_a_slow_loop_over_all_clips_and_all_intra_negatives():
    method, batch = _build(framework="simclr", temperature=0.5), _global_batch(4)
    clips = batch.clips[0]
    views = [clips, residual(clips), repeat_frame(clips, batch.targets["intra_frame"])]
    first, second, intra = (method.contrast.projector(method.backbone.pooled(view)).detach() for view in views)
    everyone = [*((0, b) for b in range(8)), *((1, b) for b in range(8))]
    embedding = {(view, b): (first, second)[view][b] for view, b in everyone}
    expected = {"view1": 0.0, "view2": 0.0}
    for view, b in everyone:
        partner = (1 - view, b)
        compared = [
            embedding[partner],
            *(embedding[one] for one in everyone if one not in ((view, b), partner)),
            *intra,
        ]
        scores = [float(embedding[view, b] @ other) / 0.5 for other in compared]
        expected[f"view{view + 1}"] += cross_entropy(scores) / 16
    output = method(batch)
    for name, value in expected.items():
        assert output.losses[name].item() == pytest.approx(value, rel=1e-12)
    own = sum(float(first[b] @ intra[b]) for b in range(8)) / 8 / 0.5
    assert output.metrics["view1_own_intra_logit"].item() == pytest.approx(own, rel=1e-12)


def test_on_moco_views_are_scored_against_the_other_views_keys_and_those_of_intra_negatives():
    method = _build(framework="moco", num_negatives=10, key_momentum=0.5, temperature=0.5)
    queues = {name: queue.rows.clone() for name, queue in method.contrast.queues.items()}
    for step in range(3):
        batch = _global_batch(step)
        clips = batch.clips[0]
        views = {"view1": clips, "view2": residual(clips), "intra": repeat_frame(clips, batch.targets["intra_frame"])}
        query = {name: method.contrast.projector(method.backbone.pooled(view)).detach() for name, view in views.items()}
        keys = {name: method.contrast.keys(view) for name, view in views.items()}
        output = method(batch)
        for name, other in (("view1", "view2"), ("view2", "view1")):
            expected = 0.0
            for b in range(8):
                compared = [keys[other][b], *queues[other], keys["intra"][b], *queues["intra"]]
                expected += cross_entropy([float(query[name][b] @ one) / 0.5 for one in compared]) / 8
            assert output.losses[name].item() == pytest.approx(expected, rel=1e-12)
        sum(output.losses.values()).backward()
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.requires_grad:
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
        slow = [parameter.clone() for parameter in method.contrast.keys.parameters()]
        method.after_step()
        fast = [*method.backbone.parameters(), *method.contrast.projector.parameters()]
        for old, goal, new in zip(slow, fast, method.contrast.keys.parameters(), strict=True):
            torch.testing.assert_close(new, 0.5 * old + 0.5 * goal)
        for name, rows in queues.items():
            for place in range(8):
                rows[(8 * step + place) % 10] = keys[name][place]
            torch.testing.assert_close(method.contrast.queues[name].rows, rows)


def test_quadrants_are_moved_as_their_order_says():
    clips = torch.rand(3, 2, 4, 6, 10, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([[1, 0, 2, 3], [3, 2, 1, 0], [0, 1, 2, 3]])
    moved = reorder_quadrants(clips, order)
    for b in range(3):
        for place in range(4):
            source = int(order[b, place])
            (row, column), (from_row, from_column) = divmod(place, 2), divmod(source, 2)
            assert torch.equal(
                moved[b, :, :, 3 * row : 3 * row + 3, 5 * column : 5 * column + 5],
                clips[b, :, :, 3 * from_row : 3 * from_row + 3, 5 * from_column : 5 * from_column + 5],
            )


def test_blurred_pixels_are_means_of_what_lies_around_them_in_their_own_frame():
    clips = torch.rand(2, 3, 2, 7, 6, generator=torch.Generator().manual_seed(0))
    smooth = blurred(clips)
    assert smooth.shape == clips.shape
    for row, column in ((0, 0), (3, 2), (6, 5), (1, 4)):
        around = clips[..., max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
        torch.testing.assert_close(smooth[..., row, column], around.mean(dim=(3, 4)))


def test_moved_quadrants_are_all_orders_but_the_first_alike():
    rng = np.random.default_rng(0)
    drawn = [tuple(moved_quadrants(rng)) for _ in range(4600)]
    counts = {order: drawn.count(order) for order in set(drawn)}
    assert len(counts) == 23
    assert (0, 1, 2, 3) not in counts
    assert min(counts.values()) > 140  # 200 expected, standard deviation 14


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_negatives": 0}, "num_negatives"),
        (
            {"framework": "moco", "second_view": "rgb", "clip": ClipDraw(size=64, resize=(64, 64))},
            "the positive would be the same clip",
        ),
        ({"framework": "simclr", "softmax": False}, "form of framework bank"),
        ({"intra_negative": "shuffle", "clip": ClipDraw(num_frames=6)}, "do not divide by 4"),
        ({"intra_negative": "quadrants", "clip": ClipDraw(size=33)}, "even size"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        IIC(DatasetFacts(8), R3D(width=2), **settings)
