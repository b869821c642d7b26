"""Numbers recorded from IIC's release, reproduced; tolerances are those of the vectors' README."""

import fnmatch
import re
import zlib
from functools import reduce

import numpy as np
import pytest
import torch
from torch import nn

from data_process.records import VideoRecord
from engine.classify import accuracies
from engine.features import SplitFeatures
from engine.retrieval import average_clips, cosine_similarity, topk_hits
from engine.schedule import ScheduleConfig, build_schedule
from models.backbone import Backbone
from models.method import DatasetFacts
from models.methods.iic import IIC
from models.planners.single_clip import ClipDraw
from models.views import reorder_chunks, repeat_frame, residual
from pipelines.batch import ViewBatch
from pipelines.evaluation import EvaluationClips
from tests.parity.recorded import backbone_module, filled, found, load, make_backbone, name, recorded_input

FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}
FLOAT64 = {"rtol": 1e-9, "atol": 1e-12}
FLOAT64_NETWORK = {"rtol": 1e-7, "atol": 1e-9}
UNDERSTOOD = (
    "nce_*", "views*", "backbone_*", "train_steps*", "sampling*", "retrieval*", "classify_test*", "schedules*"
)  # fmt: skip


@pytest.mark.parametrize("path", found("iic"), ids=name)
def test_every_recorded_file_is_understood(path):
    assert any(fnmatch.fnmatch(path.stem, pattern) for pattern in UNDERSTOOD), f"no test reads {path.name}"


class RecordedFeatures(Backbone):
    """Gives recorded features instead of computing them, in the order in which they are asked for."""

    def __init__(self, out_dim):
        super().__init__()
        self.out_dim, self.queue = out_dim, []

    def parts(self):
        raise AssertionError("only pooled features are recorded")

    def pooled(self, clips):
        return self.queue.pop(0)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("path", found("iic", "nce_*.npz"), ids=name)
def test_losses_gradients_and_banks_are_those_of_the_release(path, dtype):
    z = load(path)
    kind, tolerance = (torch.float32, FLOAT32) if dtype == "f32" else (torch.float64, FLOAT64)
    backbone = RecordedFeatures(int(z["D"]))
    has_intra = "init_memory_neg" in z
    method = IIC(
        DatasetFacts(int(z["N"])),
        backbone,
        intra_negative="repeat" if has_intra else "none",
        num_negatives=int(z["K"]),
        temperature=float(z["T"]),
        bank_momentum=float(z["momentum"]),
        softmax="exp" not in path.stem,
    ).to(kind)
    names = {"l": "view1", "ab": "view2"} | ({"neg": "intra"} if has_intra else {})
    for short, long in names.items():
        method.contrast.banks[long].rows.copy_(torch.from_numpy(z[f"init_memory_{short}"]))
    for step in range(int(z["steps"])):
        features = {s: torch.tensor(z[f"step{step}_feat_{s}"], dtype=kind, requires_grad=s != "neg") for s in names}
        backbone.queue = list(features.values())
        rows = torch.from_numpy(z[f"step{step}_idx"]).long()
        targets = {"negatives": rows[:, 1:], "intra_frame": torch.zeros(len(rows), dtype=torch.int64)}
        y = torch.from_numpy(z[f"step{step}_y"]).long()
        assert torch.equal(rows[:, 0], y)
        output = method(ViewBatch((torch.zeros(len(y), 3, 16, 1, 1, dtype=kind),), y, targets))
        sum(output.losses.values()).backward()
        method.after_step()
        for short in ("l", "ab"):
            loss = output.losses[names[short]].detach().numpy()
            np.testing.assert_allclose(loss, z[f"step{step}_loss_{short}_{dtype}"], **tolerance)
            np.testing.assert_allclose(features[short].grad, z[f"step{step}_grad_{short}_{dtype}"], **tolerance)
        for short, long in names.items():
            np.testing.assert_allclose(
                method.contrast.banks[long].rows, z[f"step{step}_memory_{short}_{dtype}"], **tolerance
            )
    np.testing.assert_allclose(method.contrast.constants, z[f"params_after_{dtype}"][2:4], **tolerance)


@pytest.mark.parametrize("path", found("iic", "views*.npz"), ids=name)
def test_views_and_intra_negatives_are_exact(path):
    z = load(path)
    x = torch.from_numpy(z["x"])
    assert np.array_equal(repeat_frame(x, torch.from_numpy(z["repeat_frame"]).long()), z["repeat_out"])
    assert np.array_equal(reorder_chunks(x, torch.from_numpy(z["shuffle_order"]).long()), z["shuffle_out"])
    for key, rescale in (("res_pretrain", True), ("res_retrieval", True), ("res_finetune", False)):
        np.testing.assert_allclose(residual(x, rescale=rescale), z[key], rtol=0, atol=1e-7)


@pytest.mark.parametrize("path", found("iic", "backbone_*.npz"), ids=name)
def test_backbone_gives_the_recorded_features(path):
    z = load(path)
    module = backbone_module(path.stem.removeprefix("backbone_"))
    if module is None:
        pytest.skip(f"{path.stem}: no file of models/backbones implements it yet")
    cases = sorted({match[1] for key in z if (match := re.match(r"(\dx\d+x\d+x\d+x\d+_s\d+)_", key))})
    assert cases
    out_dim = z[f"{cases[0]}_feat_f32"].shape[1]
    backbone = make_backbone(module, out_dim=out_dim, state_keys=list(z["state_keys"]))
    assert sum(p.numel() for p in backbone.parameters()) == int(z["num_params_backbone"])
    originals = {module.LAYOUTS["iic"](key): value for key, value in backbone.state_dict().items()}
    assert set(originals) == set(z["state_keys"].tolist())
    for key, crc in zip(z["state_keys"], z.get("state_crc", []), strict=False):
        if not key.endswith("num_batches_tracked"):
            assert zlib.crc32(originals[key].numpy().astype("<f4").tobytes()) == int(crc), key
    for case in cases:
        _check_case(z, case, backbone)


def _check_case(z, case, backbone):
    shape, seed = case.split("_s")
    clips = recorded_input(tuple(map(int, shape.split("x"))), int(seed))
    if f"{case}_input_crc" in z:
        assert zlib.crc32(clips.numpy().astype("<f4").tobytes()) == int(z[f"{case}_input_crc"])
    backbone.eval()
    with torch.no_grad():
        feature_map = backbone(clips)
        pooled = backbone.pooled(clips)
        np.testing.assert_allclose(pooled, z[f"{case}_feat_f32"], **FLOAT32)
        if f"{case}_conv_f32" in z:
            flat = nn.functional.max_pool3d(feature_map, (1, 2, 2)).flatten(1)
            np.testing.assert_allclose(flat, z[f"{case}_conv_f32"], **FLOAT32)
        if f"{case}_logits101_f32" in z:
            weight = torch.from_numpy(filled("linear.weight", torch.Size((101, pooled.shape[1]))))
            logits = pooled @ weight.T + torch.from_numpy(filled("linear.bias", torch.Size((101,))))
            np.testing.assert_allclose(logits, z[f"{case}_logits101_f32"], **FLOAT32)
        if f"{case}_feat_f64" in z:
            np.testing.assert_allclose(
                backbone.double().pooled(clips.double()), z[f"{case}_feat_f64"], **FLOAT64_NETWORK
            )
            backbone.float()
    if f"{case}_feat_trainmode_f32" in z:
        before = {key: value.clone() for key, value in backbone.state_dict().items()}
        backbone.train()
        with torch.no_grad():
            np.testing.assert_allclose(backbone.pooled(clips), z[f"{case}_feat_trainmode_f32"], **FLOAT32)
        norm = next(part for part in backbone.modules() if isinstance(part, nn.BatchNorm3d))
        np.testing.assert_allclose(norm.running_mean, z[f"{case}_trainmode_bn_first_mean"], **FLOAT32)
        np.testing.assert_allclose(norm.running_var, z[f"{case}_trainmode_bn_first_var"], **FLOAT32)
        backbone.load_state_dict(before)


@pytest.mark.parametrize("path", found("iic", "train_steps*.npz"), ids=name)
def test_three_training_steps_are_those_of_the_release(path):
    z = load(path)
    module = backbone_module(str(z["model"]))
    if module is None:
        pytest.skip(f"{path.stem}: no file of models/backbones implements {z['model']} yet")
    modality = str(z["modality"])
    if modality not in ("res", "rgb"):
        pytest.skip(f"{path.stem}: modality {modality} needs flow shards, which do not exist yet")
    keys = [str(key) for key in z["param_names"]] + [str(key) for key in z["bn_mean_keys"]]
    backbone = make_backbone(module, out_dim=z["init_memory_l"].shape[1], state_keys=keys)
    shape = tuple(int(n) for n in z["shape"])
    method = IIC(
        DatasetFacts(int(z["N"])),
        backbone,
        clip=ClipDraw(num_frames=shape[2]),
        second_view="residual" if modality == "res" else "rgb",
        intra_negative=str(z["neg"]),
        num_negatives=int(z["K"]),
        temperature=float(z["T"]),
        bank_momentum=float(z["momentum_mem"]),
    ).double()
    for short, long in (("l", "view1"), ("ab", "view2"), ("neg", "intra")):
        method.contrast.banks[long].rows.copy_(torch.from_numpy(z[f"init_memory_{short}"]))
    optimizer = torch.optim.SGD(
        method.parameters(), lr=float(z["lr"]), momentum=float(z["momentum"]), weight_decay=float(z["weight_decay"])
    )
    by_original = {module.LAYOUTS["iic"](key): value for key, value in backbone.named_parameters()}
    parameters = [by_original[str(key)] for key in z["param_names"]]
    plan_name = "intra_frame" if str(z["neg"]) == "repeat" else "intra_order"
    step = 0
    while f"step{step}_y" in z:
        rows = torch.from_numpy(z[f"step{step}_idx"]).long()
        plan = torch.from_numpy(z[f"step{step}_neg_plan"]).long()
        clips = recorded_input(shape, int(z[f"step{step}_input_seed"])).double()
        batch = ViewBatch((clips,), rows[:, 0], {"negatives": rows[:, 1:], plan_name: plan})
        output = method(batch)
        optimizer.zero_grad()
        sum(output.losses.values()).backward()
        for short, long in (("l", "view1"), ("ab", "view2")):
            np.testing.assert_allclose(
                output.losses[long].detach(), z[f"step{step}_loss_{short}_f64"], **FLOAT64_NETWORK
            )
        norms = [float(p.grad.norm()) for p in parameters]
        np.testing.assert_allclose(norms, z[f"step{step}_gradnorm_f64"], **FLOAT64_NETWORK)
        optimizer.step()
        method.after_step()
        step += 1
    assert step > 0
    norms = [float(p.detach().norm()) for p in parameters]
    np.testing.assert_allclose(norms, z["final_paramnorm_f64"], **FLOAT64_NETWORK)
    heads = np.stack([p.detach().flatten()[:4].numpy() for p in parameters])
    np.testing.assert_allclose(heads, z["final_paramhead_f64"], **FLOAT64_NETWORK)
    buffers = {module.LAYOUTS["iic"](key): value for key, value in backbone.state_dict().items()}
    means = [float(buffers[str(key)].norm()) for key in z["bn_mean_keys"]]
    np.testing.assert_allclose(means, z["final_bn_mean_norm_f64"], **FLOAT64_NETWORK)
    counts = [int(value) for key, value in buffers.items() if key.endswith("num_batches_tracked")]
    assert set(counts) == {int(z["final_bn_batches"])}
    for short, long in (("l", "view1"), ("ab", "view2"), ("neg", "intra")):
        np.testing.assert_allclose(
            method.contrast.banks[long].rows, z[f"final_memory_{short}_f64"], rtol=1e-6, atol=1e-7
        )


class EdgeDraws:
    """Stands for a generator: always the smallest, or always the largest value that could be drawn."""

    def __init__(self, largest):
        self.largest = largest

    def integers(self, low, high):
        return high - 1 if self.largest else low

    def random(self, size=None):
        return 0.0 if size is None else np.zeros(size)


@pytest.mark.parametrize("path", found("iic", "sampling*.npz"), ids=name)
def test_clip_starts_are_those_of_the_release(path):
    z = load(path)
    evaluation = EvaluationClips(drop_last_frame=True)
    for row, files in enumerate(z["num_frame_files"]):
        record = VideoRecord("v", 0, "test", "jpeg", int(files), 25.0, 240, 320)
        starts = [clip.frames[0] for clip in evaluation.plans(record)[0].clips]
        assert starts == z["retrieval_test_starts"][row].tolist()
        first, last = (ClipDraw().draw(EdgeDraws(largest), record).frames for largest in (False, True))
        assert first[0] == z["train_start_min"][row]
        assert last[0] == z["train_start_max"][row]


@pytest.mark.parametrize("path", found("iic", "retrieval*.npz"), ids=name)
def test_halves_of_the_recorded_features_merged_are_retrieved_as_the_whole(path):
    z = load(path)
    merged = []
    for split in ("test", "train"):
        labels, whole = (torch.from_numpy(z[f"{split}_{kind}"]) for kind in ("labels", "features"))
        # Two modalities as the release merges them: put side by side clip by clip, averaged then.
        halves = (SplitFeatures(average_clips(part), labels) for part in whole.split(whole.shape[2] // 2 + 1, dim=2))
        merged.append(reduce(SplitFeatures.beside, halves))
    query, gallery = merged
    hits = topk_hits(query.values, query.labels, gallery.values, gallery.labels, z["ks"].tolist())
    assert list(hits.values()) == z["correct"].tolist()
    np.testing.assert_allclose(1 - cosine_similarity(query.values, gallery.values), z["cosine_distance"], atol=1e-9)


@pytest.mark.parametrize("path", found("iic", "retrieval*.npz"), ids=name)
def test_retrieval_hits_are_those_of_the_release(path):
    z = load(path)
    query, gallery = (average_clips(torch.from_numpy(z[f"{split}_features"])) for split in ("test", "train"))
    np.testing.assert_allclose(1 - cosine_similarity(query, gallery), z["cosine_distance"], rtol=1e-6, atol=1e-9)
    query_labels, gallery_labels = (torch.from_numpy(z[f"{split}_labels"]) for split in ("test", "train"))
    ks = [int(k) for k in z["ks"]]
    hits = topk_hits(query, query_labels, gallery, gallery_labels, ks)
    assert [hits[k] for k in ks] == z["correct"].tolist()


@pytest.mark.parametrize("path", found("iic", "classify_test*.npz"), ids=name)
def test_clip_logits_are_averaged_as_in_the_release(path):
    z = load(path)
    logits = average_clips(torch.from_numpy(z["clip_logits"]))
    np.testing.assert_allclose(logits, z["video_logits"], rtol=1e-6, atol=1e-7)
    predicted = logits.argmax(dim=1).numpy()
    assert np.array_equal(predicted, z["pred"])
    assert (predicted == z["labels"]).mean() == pytest.approx(float(z["acc_exact"]))
    told = accuracies(logits, torch.from_numpy(z["labels"]).long())
    assert told["top1"] == pytest.approx(100 * float(z["acc_exact"]))


@pytest.mark.parametrize("path", found("iic", "schedules*.npz"), ids=name)
def test_learning_rates_are_those_of_the_release(path):
    z = load(path)
    recorded = z["pretrain_lr_epoch1_to_240"]
    steps = 7
    schedule = build_schedule(
        ScheduleConfig(name="multistep"), base_lr=0.01, num_steps=steps * len(recorded), steps_per_epoch=steps
    )
    for last_step in (0, steps - 1):
        rates = [schedule(epoch * steps + last_step) for epoch in range(len(recorded))]
        np.testing.assert_allclose(rates, recorded, rtol=1e-12)
