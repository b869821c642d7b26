"""DualVar as a whole: its losses against loops, its ranks against one process, its settings."""

import functools
import math
import pickle

import pytest
import torch
from torch.nn import functional

from data_process.records import VideoRecord
from models.backbones.c3d import C3D
from models.backbones.r2d3d import R2D3D
from models.backbones.r3d import R3D
from models.backbones.r21d import R21D
from models.backbones.s3d import S3D
from models.backbones.s3dg import S3DG
from models.method import DatasetFacts
from models.methods.dualvar import DualVar
from models.planners.segments import SegmentPlanner
from models.views import reorder_chunks
from pipelines.batch import ViewBatch
from pipelines.plan import sample_rng
from tests.engine.ranks import Ranks
from tests.models.global_batch import Plain, assert_ranks_train_as_one, clips_of

FACTS = DatasetFacts(20)
CLIP = SegmentPlanner(num_frames=8, size=8, resize=(8, 12))
MOCO = {"framework": "moco", "queue_size": 13, "momentum": 0.9}
MODES = ["clip-sr-tc", "clip-sr", "clip-tc", "clip"]


def build(segments=2, **settings):
    torch.manual_seed(0)
    clip = SegmentPlanner(num_frames=8, size=8, resize=(8, 12), num_segments=segments)
    return DualVar(FACTS, Plain(), clip=clip, dim=7, segment_dim=5, **settings).double()


def batch_of(seed, *, mode="clip-sr-tc", samples=8, segments=2):
    rng = torch.Generator().manual_seed(100 + seed)
    index = torch.randperm(20, generator=rng)[:samples]
    orders = torch.stack([torch.randperm(segments, generator=rng) for _ in range(samples)])
    ranked = "sr" in mode
    clips = clips_of(seed, samples=samples, views=3 if ranked else 2, frames=8)
    return ViewBatch(clips, index, {"segment_order": orders} if ranked else {})


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request):
    group = Ranks(request.param)
    yield group
    group.stop()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("carrier", [{}, MOCO], ids=["simclr", "moco"])
def test_ranks_train_as_one_process_does(ranks, carrier, mode):
    assert_ranks_train_as_one(
        ranks, functools.partial(build, mode=mode, **carrier), functools.partial(batch_of, mode=mode)
    )


def slow_contrast(rows, columns, positive, excluded, temperature):
    """Mean over rows of the cross-entropy of the positive among the columns that are not excluded."""
    total = 0.0
    for place, row in enumerate(rows):
        scores = {c: float(row @ column) / temperature for c, column in enumerate(columns) if c != excluded(place)}
        total += math.log(sum(map(math.exp, scores.values()))) - scores[positive(place)]
    return total / len(rows)


def slow_ranking(clips, shuffled, orders, theta):
    """0.5 times the mean of log(1 + exp(margin)), the shuffled clip's segments taken back to where they came from."""
    terms = []
    for clip, moved, order in zip(clips, shuffled, orders, strict=True):
        back = [moved[order.tolist().index(segment)] for segment in range(len(order))]
        vectors = {(0, s): clip[s] for s in range(len(order))} | {(1, s): back[s] for s in range(len(order))}
        for (one, segment), vector in vectors.items():
            twin = float(vector @ vectors[1 - one, segment])
            others = [float(vector @ other) for (_, place), other in vectors.items() if place != segment]
            terms += [math.log1p(math.exp((other - twin) / theta)) for other in others]
    return 0.5 * sum(terms) / len(terms)


@pytest.mark.parametrize("segments", [2, 4])
@pytest.mark.parametrize("carrier", [{}, MOCO], ids=["simclr", "moco"])
def test_losses_equal_a_slow_version(carrier, segments):
    method, batch = build(segments, **carrier), batch_of(1, segments=segments)
    orders = batch.targets["segment_order"]
    with torch.no_grad():
        pooled = [method.backbone.pooled(c) for c in (*batch.clips, reorder_chunks(batch.clips[2], orders))]
        clips = [functional.normalize(method.heads["clip"](one), dim=1) for one in pooled]
        parts = [functional.normalize(method.heads["segments"](one), dim=2) for one in pooled]
    averages = [part.mean(dim=1) for part in parts]
    losses = method(batch).losses
    for name, (first, second, *_) in (("clip", clips), ("coherent", averages)):
        if carrier:  # the key network has the weights of the other yet
            stored = method.heads.split(method.keys.queue.rows)["clip" if name == "clip" else "segments"]
            queue = stored if name == "clip" else stored.mean(dim=1)
            expected = sum(
                slow_contrast([one], [other, *queue], lambda _: 0, lambda _: None, 0.07)
                for one, other in zip(first, second, strict=True)
            ) / len(first)
        else:
            both = torch.cat([first, second])
            expected = slow_contrast(both, both, lambda row: (row + 8) % 16, lambda row: row, 0.07)
        assert losses[name].item() == pytest.approx(expected, rel=1e-9)
    assert losses["rank_first"].item() == pytest.approx(slow_ranking(parts[0], parts[3], orders, 0.05), rel=1e-9)
    assert losses["rank_third"].item() == pytest.approx(slow_ranking(parts[2], parts[3], orders, 0.05), rel=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("carrier", [{}, MOCO], ids=["simclr", "moco"])
def test_every_trained_parameter_gets_a_gradient_and_losses_fall_on_one_batch(carrier, mode):
    method, batch = build(mode=mode, **carrier), batch_of(0, mode=mode)
    parameters = [p for p in method.parameters() if p.requires_grad]
    optimizer, seen = torch.optim.Adam(parameters, lr=0.01), []
    for _ in range(30):
        losses = method(batch).losses
        assert set(losses) == {"clip"} | ({"coherent"} if "tc" in mode else set()) | (
            {"rank_first", "rank_third"} if "sr" in mode else set()
        )
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
        optimizer.step()  # and no more: a queue would fill with this very batch
        seen.append(sum(losses.values()).item())
    assert seen[-1] < 0.95 * seen[0]


@pytest.mark.parametrize("mode", MODES)
def test_the_planner_draws_the_clips_of_the_format(mode):
    method = build(mode=mode)
    planner = pickle.loads(pickle.dumps(method.planner()))
    for number in range(10):
        plan = planner(sample_rng(0, 0, number), VideoRecord("v", 0, "train", "jpeg", 50, 25.0, 32, 40))
        method.clip_format.check(plan)
        assert set(plan.targets) == set(batch_of(0, mode=mode).targets)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("carrier", [{}, MOCO], ids=["simclr", "moco"])
def test_metrics_are_detached_and_finite_for_a_batch_of_one_too(carrier, mode):
    for samples in (1, 6):
        metrics = build(mode=mode, **carrier)(batch_of(0, mode=mode, samples=samples)).metrics
        assert all(not value.requires_grad and value.ndim == 0 for value in metrics.values())
        assert all(math.isfinite(value) for value in metrics.values())
        found = {name for name in metrics if name.endswith("_found")}
        assert all(0 <= metrics[name] <= 1 for name in found)
        assert 0 <= metrics["within_video_share"] <= 2


def test_the_share_within_videos_tells_clips_that_look_alike_from_those_that_do_not():
    method, batch = build(mode="clip"), batch_of(0, mode="clip")
    same = ViewBatch((batch.clips[0], batch.clips[0]), batch.index)
    assert method(same).metrics["within_video_share"] == 0
    # Every clip's partner is a clip of another video.
    strangers = ViewBatch((batch.clips[0], batch.clips[0].roll(1, dims=0)), batch.index)
    assert method(strangers).metrics["within_video_share"] > 0.3
    assert method(same).metrics["clip_found"] == 1


def test_encoding_all_clips_at_once_matters_to_batch_norms_alone():
    for backbone, agrees in ((Plain, True), (functools.partial(R3D, width=2), False)):
        values = []
        for one_batch in (False, True):
            torch.manual_seed(0)
            method = DualVar(FACTS, backbone(), clip=CLIP, one_batch=one_batch).double()
            values.append(sum(method(batch_of(0)).losses.values()).item())
        assert (values[0] == pytest.approx(values[1], rel=1e-9)) == agrees


def test_the_bound_of_the_release_keeps_ranking_from_its_worst_pairs():
    free, bounded = (build(legacy_rank_clip=bound)(batch_of(0)).losses for bound in (None, 0.01))
    assert bounded["rank_first"] < free["rank_first"]
    assert bounded["clip"] == free["clip"]


def test_the_queue_begins_with_embeddings_of_length_one():
    method = build(**MOCO)
    parts = method.heads.split(method.keys.queue.rows)
    assert {name: tuple(part.shape) for name, part in parts.items()} == {"clip": (13, 7), "segments": (13, 2, 5)}
    for part in parts.values():
        torch.testing.assert_close(part.norm(dim=-1), torch.ones_like(part[..., 0]))


@pytest.mark.parametrize("carrier", [{}, {"framework": "moco", "queue_size": 16}], ids=["simclr", "moco"])
def test_bfloat16_stays_near_float32(carrier):
    torch.manual_seed(0)
    clip = SegmentPlanner(num_frames=8, size=32, resize=(36, 48))
    method = DualVar(FACTS, R3D(width=4), clip=clip, **carrier)
    clips = tuple(one.float() for one in clips_of(0, samples=4, views=3, frames=8, side=32))
    batch = ViewBatch(clips, torch.arange(4), {"segment_order": torch.tensor([[0, 1], [1, 0]] * 2)})
    exact = method(batch).losses
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = method(batch).losses
    for name in exact:
        assert rough[name].dtype == torch.float32
        assert rough[name].item() == pytest.approx(exact[name].item(), rel=0.1, abs=0.02)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"mode": "clip-rs"}, "clip-sr-tc, clip-sr, clip-tc, clip"),
        ({"framework": "byol"}, "one of simclr, moco"),
        ({"segments": 1}, "ranks segments"),
        ({"theta": 0.0}, "must be positive"),
        ({**MOCO, "legacy_gather": True}, "no gradient passes between ranks"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_settings_that_contradict_each_other_are_refused(wrong, why):
    with pytest.raises(ValueError, match=why):
        build(**wrong)


def test_one_segment_will_do_where_nothing_is_ranked():
    assert set(build(1, mode="clip-tc")(batch_of(0, mode="clip-tc")).losses) == {"clip", "coherent"}


@pytest.mark.parametrize("kind", [C3D, R21D, R2D3D, R3D, S3D, S3DG], ids=lambda kind: kind.__name__)
def test_every_backbone_of_the_release_is_trained_by_it(kind):
    torch.manual_seed(0)
    clip = SegmentPlanner(num_frames=8, size=32, resize=(36, 48))
    method = DualVar(FACTS, kind(width=4), clip=clip, **MOCO)
    clips = tuple(one.float() for one in clips_of(0, samples=2, views=3, frames=8, side=32))
    batch = ViewBatch(clips, torch.arange(2), {"segment_order": torch.tensor([[0, 1], [1, 0]])})
    for _ in range(2):
        losses = method(batch).losses
        sum(losses.values()).backward()
        method.after_step()
    assert all(torch.isfinite(loss) for loss in losses.values())
    gradients = [p.grad for p in method.backbone.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert sum(gradient.abs().sum() > 0 for gradient in gradients) > 0.9 * len(gradients)


# Parts, for pictures.


@pytest.mark.parametrize("carrier", [{}, MOCO], ids=["simclr", "moco"])
@pytest.mark.parametrize("segments", [2, 4])
def test_parts_are_segments_and_their_twins_of_a_clip_that_was_moved_on(carrier, segments):
    method, batch = build(segments=segments, **carrier).eval(), batch_of(1, segments=segments)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    parts = method.parts(batch)
    numbers = range(1, segments + 1)
    assert list(parts) == [*(f"segment {one}" for one in numbers), *(f"moved {one}" for one in numbers)]
    clips = batch.clips[0]
    length = clips.shape[2] // segments
    moved = torch.cat([clips[:, :, -length:], clips[:, :, :-length]], dim=2)  # the last segment is shown first

    def embedded(clips, place):
        rows = method.heads(method.backbone.pooled(clips))
        return method.heads.split(rows)["segments"][:, place]

    for one in range(segments):
        torch.testing.assert_close(parts[f"segment {one + 1}"], embedded(clips, one))
        # What was segment `one` is shown one place later.
        torch.testing.assert_close(parts[f"moved {one + 1}"], embedded(moved, (one + 1) % segments))
    after = method.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(value.requires_grad for value in parts.values())


@pytest.mark.parametrize("mode", ["clip-tc", "clip"])
def test_without_ranking_there_are_no_parts(mode):
    assert build(mode=mode).parts(batch_of(1, mode=mode)) == {}
