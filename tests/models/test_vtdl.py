import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from data_process.errors import RunError
from data_process.records import VideoRecord
from models.backbones.r3d import R3D
from models.method import DatasetFacts
from models.methods.vtdl import VTDL
from models.planners.frame_order import shuffled_order
from models.planners.triplet import TripletPlanner
from models.views import blend_frame
from pipelines.batch import ViewBatch
from pipelines.plan import sample_rng
from tests.engine.ranks import Ranks
from tests.models.global_batch import Plain, assert_ranks_train_as_one, clips_of

CLIP = TripletPlanner(num_frames=8, size=32, short_side=36)


def make_method(make_backbone=lambda: R3D(width=4), **settings):
    torch.manual_seed(0)
    return VTDL(DatasetFacts(9), make_backbone(), **({"clip": CLIP, "num_negatives": 7, "dim": 6} | settings))


def make_batch(size=3, *, views=3, frames=8, side=32, seed=0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    clips = tuple(torch.randn(size, 3, frames, side, side, generator=rng).to(dtype) for _ in range(views))
    targets = {
        "mix_frame": torch.randint(0, frames, (size,), generator=rng),
        "mix_weight": 0.1 * torch.rand(size, generator=rng),
        "negatives": torch.randint(0, 9, (size, 7), generator=rng),
        "inter_frame": torch.randint(0, frames, (size,), generator=rng),
        "inter_place": torch.rand(size, generator=rng, dtype=torch.float64),
        "inter_weight": 0.3 * torch.rand(size, generator=rng),
        "cut_window": torch.tensor([[1, 5, 2, 4], [0, 2, 0, 6], [3, 3, 3, 3]]).repeat(3, 1)[:size],
        "shuffle_order": torch.stack([torch.randperm(frames, generator=rng) for _ in range(size)]),
        "orientation": torch.randint(0, 4, (size, views), generator=rng),
    }
    return ViewBatch(clips, (torch.arange(size) + size * seed) % 9, targets)


ALL_ON = replace(CLIP, inter_mix_strength=0.3, cut_share=0.05, shuffle="chunks", orientations=16)
LEGACY_CHANGES = {"legacy_shared_weight": True, "legacy_reuse_mixed": True, "legacy_orientations": True}

VARIANTS = {
    "queue": {},
    "queue, NCE": {"softmax": False},
    "queue, one time": {"same_video_negative": False},
    "queue, positive mixed": {"mixed_clip": "positive"},
    "queue, own keys ignored": {"ignore_own_keys": True},
    "queue, no mixing": {"clip": replace(CLIP, mix_strength=0.0)},
    "queue, no mixing, one time": {"clip": replace(CLIP, mix_strength=0.0), "same_video_negative": False},
    "queue, wide head": {"hidden_dim": 5},
    "queue, as released": {"softmax": False, "legacy_constant": True, "legacy_shared_weight": True},
    "queue, stills of others": {"clip": replace(CLIP, mix_strength=0.0, inter_mix_strength=0.3)},
    "queue, window": {"clip": replace(CLIP, cut_share=0.05)},
    "queue, shuffled negative": {"clip": replace(CLIP, shuffle="chunks")},
    "queue, strong negative": {"clip": replace(CLIP, shuffle="frames"), "shuffled_clip": "positive"},
    "queue, strong negative alone": {
        "clip": replace(CLIP, shuffle="inside-chunks"),
        "shuffled_clip": "positive",
        "same_video_negative": False,
    },
    "queue, orientations": {"clip": replace(CLIP, orientations=16)},
    "queue, orientations named": {"clip": replace(CLIP, orientations=4), "orientation_weight": 0.5},
    "queue, everything as released": {"clip": ALL_ON, **LEGACY_CHANGES},
    "bank": {"memory": "bank"},
    "bank, no mixing": {"memory": "bank", "clip": replace(CLIP, mix_strength=0.0)},
    "bank, no mixing, one time": {
        "memory": "bank",
        "clip": replace(CLIP, mix_strength=0.0),
        "same_video_negative": False,
    },
    "bank, everything": {"memory": "bank", "clip": replace(ALL_ON, orientations=4), "orientation_weight": 0.5},
    "bank, one time": {"memory": "bank", "same_video_negative": False},
    "bank, NCE": {"memory": "bank", "softmax": False},
}
variants = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)


@variants
def test_gradient_reaches_every_parameter_but_the_key_encoders(settings):
    method = make_method(**settings)
    for step in range(2):
        output = method(make_batch(views=len(method.parts), seed=step))
        assert all(value.ndim == 0 and value.isfinite() for value in output.metrics.values())
        sum(output.losses.values()).backward()
        method.after_step()
    trained = [p for p in method.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    followers = [name for name, p in method.named_parameters() if not p.requires_grad]
    assert all(name.startswith("keys.encoder.") for name in followers)
    assert bool(followers) == (settings.get("memory") != "bank")


@variants
def test_the_planner_draws_what_forward_reads(settings):
    method = make_method(**settings)
    plan = method.planner()(sample_rng(0, 0, 0), VideoRecord("v", 0, "train", "jpeg", 90, 25.0, 48, 64))
    method.clip_format.check(plan)
    assert len(plan.clips) == len(method.parts)
    assert ("negatives" in plan.targets) == (settings.get("memory") == "bank")
    targets = {name: torch.from_numpy(value)[None].expand(3, *value.shape) for name, value in plan.targets.items()}
    drawn = replace(make_batch(views=len(method.parts)), targets=targets)
    assert all(value.isfinite() for value in method(drawn).losses.values())


def encoded(network, head, clips):
    return head(network.pooled(clips))


def test_anchor_is_mixed_positive_has_the_slow_network_and_the_queue_gets_keys_alone():
    method, batch = make_method(ignore_own_keys=True).eval(), make_batch()
    before = method.keys.queue.snapshot()
    with torch.no_grad():
        for parameter in method.keys.encoder.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        anchor = blend_frame(batch.clips[0], batch.targets["mix_frame"], batch.targets["mix_weight"])
        q, n = (encoded(method.backbone, method.head, clips) for clips in (anchor, batch.clips[2]))
        slow = method.keys.encoder.network
        k = encoded(slow.backbone, slow.head, batch.clips[1])
        logits = torch.cat([(q * k).sum(1, True), q @ before.T, (q * n).sum(1, True)], dim=1) / 0.07
    output = method(batch)
    expected = (logits.logsumexp(dim=1) - logits[:, 0]).mean()
    torch.testing.assert_close(output.losses["contrast"], expected)
    assert output.metrics["positive_similarity"].item() == pytest.approx((q * k).sum(1).mean().item(), abs=1e-5)
    assert output.metrics["found"] == (logits.argmax(1) == 0).double().mean()
    method.after_step()
    torch.testing.assert_close(method.keys.queue.rows[:3], k)
    assert torch.equal(method.keys.queue.rows[3:], before[3:])
    assert method.keys.videos.tolist() == [0, 1, 2, -1, -1, -1, -1]


def test_a_strong_negative_is_the_positives_frames_in_another_order_and_one_column_more():
    settings = {"clip": replace(CLIP, shuffle="chunks", mix_strength=0.0), "shuffled_clip": "positive"}
    method, batch = make_method(**settings).eval(), make_batch()
    with torch.no_grad():
        order = batch.targets["shuffle_order"]
        strong = torch.stack([clip[:, one] for clip, one in zip(batch.clips[1], order, strict=True)])
        q, n, s = (encoded(method.backbone, method.head, clips) for clips in (batch.clips[0], batch.clips[2], strong))
        k = encoded(method.keys.encoder.network.backbone, method.keys.encoder.network.head, batch.clips[1])
        columns = [(q * k).sum(1, True), q @ method.keys.queue.rows.T, (q * n).sum(1, True), (q * s).sum(1, True)]
        logits = torch.cat(columns, dim=1) / 0.07
    output = method(batch)
    torch.testing.assert_close(output.losses["contrast"], (logits.logsumexp(dim=1) - logits[:, 0]).mean())
    for name, place in (("same_video_similarity", -2), ("shuffled_similarity", -1)):
        assert output.metrics[name].item() == pytest.approx(0.07 * logits[:, place].mean().item(), abs=1e-5)
    for name, place in (("moment_found", -2), ("order_found", -1)):
        assert output.metrics[name] == (logits[:, 0] > logits[:, place]).double().mean()


def test_a_shuffled_negative_is_the_other_time_in_another_order():
    method, batch = make_method(clip=replace(CLIP, shuffle="frames")), make_batch()
    made = method.derived(batch)
    assert made.keys() == {"anchor", "negative"}
    for clip, shown, order in zip(batch.clips[2], made["negative"], batch.targets["shuffle_order"], strict=True):
        assert torch.equal(shown, clip[:, order])


def test_how_clips_lie_is_named_from_the_features_of_anchor_and_negative():
    settings = {"clip": replace(CLIP, orientations=4, mix_strength=0.0), "orientation_weight": 0.5}
    method, batch = make_method(**settings).eval(), make_batch()
    output, places = method(batch), batch.targets["orientation"]
    expected, right = 0.0, 0
    for view in (0, 2):
        for clip, place in zip(batch.clips[view], places[:, view].tolist(), strict=True):
            turned = torch.rot90(clip, place, (2, 3))
            answer = method.naming.out(method.backbone.pooled(turned[None])).detach()[0]
            expected += 0.5 * (answer.logsumexp(0) - answer[place]).item() / 6
            right += int(answer.argmax()) == place
    assert output.losses["orientation"].item() == pytest.approx(expected, rel=1e-5)
    assert output.metrics["orientation_accuracy"].item() == pytest.approx(right / 6)


def test_changes_that_are_off_leave_plans_as_they_were():
    record = VideoRecord("v", 0, "train", "jpeg", 90, 25.0, 48, 64)
    plain, more = (clip(sample_rng(3, 1, 5), record) for clip in (CLIP, ALL_ON))
    assert plain.clips == more.clips
    assert plain.targets.keys() == {"mix_frame", "mix_weight"}
    assert all(np.array_equal(value, more.targets[name]) for name, value in plain.targets.items())


def test_what_is_drawn_for_the_changes_is_as_spread_as_it_should_be():
    record = VideoRecord("v", 0, "train", "jpeg", 90, 25.0, 48, 64)
    drawn = [ALL_ON(sample_rng(0, 0, index), record).targets for index in range(400)]
    assert {int(one["inter_frame"]) for one in drawn} == set(range(8))
    assert 0.0 < min(one["inter_weight"] for one in drawn) < max(one["inter_weight"] for one in drawn) < 0.3
    assert len({float(one["inter_place"]) for one in drawn}) == 400
    assert all({int(one["orientation"][view]) for one in drawn} == set(range(16)) for view in range(3))
    windows = np.stack([one["cut_window"] for one in drawn])
    tall, wide = windows[:, 1] - windows[:, 0], windows[:, 3] - windows[:, 2]
    assert windows.min() == 0
    assert windows.max() == 32
    assert (tall * wide).max() <= 0.05 * 32 * 32
    assert (tall * wide).mean() > 0.01 * 32 * 32  # 0.025 but for rounding down and borders


@pytest.mark.parametrize(("how", "orders"), [("frames", 5), ("chunks", 23), ("inside-chunks", 15)])
def test_all_orders_but_that_of_time_are_equally_likely(how, orders):
    frames = 3 if how == "frames" else 8
    rng, each = np.random.default_rng(0), 100
    drawn = [tuple(shuffled_order(rng, frames, how).tolist()) for _ in range(each * orders)]
    counts = {order: drawn.count(order) for order in set(drawn)}
    assert len(counts) == orders
    assert tuple(range(frames)) not in counts
    assert all(sorted(order) == list(range(frames)) for order in counts)
    assert min(counts.values()) > 0.6 * each  # standard deviation 10


def test_the_slow_network_follows_after_the_step():
    method = make_method(key_momentum=0.75)
    old = {name: value.clone() for name, value in method.keys.encoder.network.named_parameters()}
    method(make_batch())
    with torch.no_grad():
        for parameter in (*method.backbone.parameters(), *method.head.parameters()):
            parameter += 1.0
    method.after_step()
    for name, value in method.keys.encoder.network.named_parameters():
        torch.testing.assert_close(value, old[name] + 0.25)


def test_older_keys_of_a_video_are_told_and_may_be_ignored():
    losses = {}
    for ignore in (False, True):
        method = make_method(ignore_own_keys=ignore).eval()
        method(make_batch())
        method.after_step()
        output = method(make_batch())
        assert output.metrics["queued_own"] == 1.0
        assert output.metrics["queue_age"] == 1.0
        losses[ignore] = output.losses["contrast"]
        assert method(make_batch(seed=1)).metrics["queued_own"] == 0.0
    assert losses[True] < losses[False], "each sample's own older key is its hardest negative"


def test_stills_come_from_the_whole_global_batch_and_from_others_too():
    settings = {"clip": replace(CLIP, mix_strength=0.0, inter_mix_strength=1.0)}
    batch = make_batch(8)
    whole = replace(batch, targets={**batch.targets, "inter_weight": torch.ones(8)})
    made = make_method(**settings).derived(whole)["anchor"]
    givers = batch.targets["inter_place"].argsort().tolist()
    assert sum(giver != taker for taker, giver in enumerate(givers)) > 4
    for taker, giver in enumerate(givers):
        still = batch.clips[0][giver, :, batch.targets["inter_frame"][giver]]
        assert torch.equal(made[taker], still.unsqueeze(1).expand_as(made[taker]))


def test_one_weight_for_all_is_that_of_the_first_sample():
    batch = make_batch()
    alike = replace(batch, targets={**batch.targets, "mix_weight": batch.targets["mix_weight"][:1].expand(3)})
    losses = [
        make_method(legacy_shared_weight=shared).eval()(given).losses["contrast"]
        for shared, given in ((True, batch), (False, alike), (False, batch))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_a_bank_moves_rows_of_the_batch_alone():
    method, batch = make_method(memory="bank").eval(), make_batch(views=2)
    before = method.bank.rows.clone()
    method(batch)
    method.after_step()
    anchor = blend_frame(batch.clips[0], batch.targets["mix_frame"], batch.targets["mix_weight"])
    with torch.no_grad():
        mixed = nn.functional.normalize(
            0.5 * before[:3] + 0.5 * encoded(method.backbone, method.head, anchor), dim=1
        )  # fmt: skip
    torch.testing.assert_close(method.bank.rows[:3], mixed)
    assert torch.equal(method.bank.rows[3:], before[3:])


@variants
def test_the_loss_falls_on_one_batch(settings):
    method = make_method(**settings)
    batch = make_batch(views=len(method.parts))
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.003)
    seen = []
    for _ in range(12):
        loss = sum(method(batch).losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # and no more: a queue would fill with this very batch
        seen.append(loss.item())
    assert seen[-1] < 0.8 * seen[0]


def test_bfloat16_stays_near_float32():
    exact = make_method()(make_batch()).losses["contrast"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = make_method()(make_batch()).losses["contrast"]
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.1)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_negatives": 0}, "num_negatives"),
        ({"memory": "bank", "mixed_clip": "positive"}, "neither positive clips"),
        ({"memory": "bank", "ignore_own_keys": True}, "nor queued keys"),
        ({"legacy_constant": True}, "switch softmax off"),
        ({"shuffled_clip": "positive"}, r"set clip\.shuffle"),
        ({"clip": replace(CLIP, shuffle="chunks"), "same_video_negative": False}, "no negative ones|negative clip"),
        ({"clip": replace(CLIP, shuffle="chunks"), "memory": "bank", "shuffled_clip": "positive"}, "positive clip"),
        ({"orientation_weight": 1.0}, r"clip\.orientations 1"),
        ({"clip": replace(CLIP, orientations=4), "orientation_weight": -1.0}, "must not be negative"),
        ({"clip": replace(CLIP, orientations=8), "legacy_orientations": True}, "about 16 orientations"),
        ({"legacy_reuse_mixed": True}, r"clip\.inter_mix_strength"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        make_method(**settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"cut_share": 1.5}, r"cut_share \(1\.5\) must lie in \[0, 1\]"),
        ({"shuffle": "chunks", "num_frames": 10}, "a multiple of 4; got 10"),
        ({"shuffle": "inside-chunks", "num_frames": 4}, "at least 8 frames"),
        ({"shuffle": "frames", "num_frames": 1}, "at least 2 frames"),
    ],
)
def test_draws_that_cannot_be_made_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        replace(CLIP, **settings)


def test_a_constant_that_is_cut_to_nothing_ends_the_run():
    method = make_method(softmax=False, legacy_constant=True, temperature=1.0).eval()
    for head in (method.head, method.keys.encoder.network.head):
        nn.init.zeros_(head.out.weight)
        head.out.bias.data.copy_(torch.eye(6)[0])
    method.keys.queue.rows.copy_(-10.0 * torch.eye(6)[0])
    # The mean of two columns of e and seven of e^-10 is 0.6, and three videos are one batch.
    method.num_videos = 3
    with pytest.raises(RunError, match=r"method\.legacy_constant"):
        method(make_batch())


DISTRIBUTED = {
    "queue": {"num_negatives": 11},
    "queue, own keys ignored, one weight": {
        "num_negatives": 11, "ignore_own_keys": True, "legacy_shared_weight": True
    },
    "queue, NCE": {"num_negatives": 11, "softmax": False},
    "queue, everything": {
        "num_negatives": 11,
        "changes": {"inter_mix_strength": 0.3, "cut_share": 0.2, "shuffle": "chunks", "orientations": 4},
        "shuffled_clip": "positive",
        "orientation_weight": 0.5,
    },
    "queue, everything as released": {
        "num_negatives": 11,
        "changes": {"inter_mix_strength": 0.3, "cut_share": 0.2, "shuffle": "frames", "orientations": 16},
        **LEGACY_CHANGES,
    },
    "bank": {"memory": "bank"},
    "bank, NCE": {"memory": "bank", "softmax": False},
}  # fmt: skip


def double_method(*, changes=None, **settings):
    clip = TripletPlanner(4, size=8, short_side=9, **(changes or {}))
    return make_method(Plain, clip=clip, key_momentum=0.9, **settings).double()


def double_batch(seed, *, views):
    targets = make_batch(8, views=views, frames=4, side=8, seed=seed).targets
    index = torch.randperm(9, generator=torch.Generator().manual_seed(seed))[:8]
    return ViewBatch(clips_of(seed, views=views), index, targets)


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request):
    group = Ranks(request.param)
    yield group
    group.stop()


@pytest.mark.parametrize("settings", DISTRIBUTED.values(), ids=DISTRIBUTED)
def test_ranks_train_as_one_process_does(ranks, settings):
    views = 2 if settings.get("memory") == "bank" else 3
    made = functools.partial(double_method, **settings)
    assert any(name in made().state_dict() for name in ("keys.queue.rows", "bank.rows"))
    assert_ranks_train_as_one(ranks, made, functools.partial(double_batch, views=views))
