import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

from data_process.errors import RunError
from data_process.records import VideoRecord
from models.backbones.r3d import R3D
from models.method import DatasetFacts
from models.methods.vtdl import VTDL
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
    }
    return ViewBatch(clips, (torch.arange(size) + size * seed) % 9, targets)


VARIANTS = {
    "queue": {},
    "queue, NCE": {"softmax": False},
    "queue, one time": {"same_video_negative": False},
    "queue, positive mixed": {"mixed_clip": "positive"},
    "queue, own keys ignored": {"ignore_own_keys": True},
    "queue, no mixing": {"clip": replace(CLIP, mix_strength=0.0)},
    "queue, wide head": {"hidden_dim": 5},
    "queue, as released": {"softmax": False, "legacy_constant": True, "legacy_shared_weight": True},
    "bank": {"memory": "bank"},
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
        loss = method(batch).losses["contrast"]
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
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        make_method(**settings)


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
    "bank": {"memory": "bank"},
    "bank, NCE": {"memory": "bank", "softmax": False},
}  # fmt: skip


def double_method(**settings):
    clip = TripletPlanner(4, size=8, short_side=9)
    return make_method(Plain, clip=clip, key_momentum=0.9, **settings).double()


def double_batch(seed, *, views):
    targets = make_batch(8, views=1, frames=4, side=8, seed=seed).targets
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
