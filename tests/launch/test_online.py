"""What a run measures of itself is the same for any number of ranks and any batch size, and leaves no trace."""

from dataclasses import replace

import pytest
import torch

from data_process.shards import ShardSet
from engine.online import Online
from engine.world import World
from launch.config import load_run
from launch.evaluate import evaluation_clips
from launch.online import online_measures
from models.method import DatasetFacts
from pipelines.evaluation import evaluation_batches
from pipelines.loader import PipelineConfig
from tests.engine.ranks import Ranks
from tests.launch.runs import ROOT
from tests.sample_videos import small_dataset

RECIPE = ROOT / "configs" / "smoke" / "finetune.yaml"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("online") / "shards", videos=40, classes=("a", "b", "c"))


def measured(world, root, batch_size, average="logits"):
    """Values of a network of random weights, by validation and by kNN; and whether anything of it has changed."""
    torch.set_num_threads(1)
    settings = {
        "data.root": root, "data.held_out": 0.3, "online.every_epochs": 1, "online.num_videos": 11,
        "online.neighbours": 3, "method.backbone.width": 4, "pipeline.threads": 1, "eval.batch_size": batch_size,
        "eval.average": average, "eval.size": 16, "eval.num_frames": 8,
    }  # fmt: skip
    loaded = load_run(RECIPE, [f"--{name}={value}" for name, value in settings.items()])
    config = loaded.config
    videos = config.data.open()
    method = loaded.build_method(DatasetFacts(len(videos), 3)).train()
    with torch.no_grad():
        method.classifier.out.weight.normal_(std=30.0, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    measures = online_measures(config, videos, method, world=world, sharing=1, steps_per_epoch=5)
    values = Online(measures, num_steps=99).take(5, method, lambda stage: None)
    kept = all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    return values, kept and all(module.training for module in method.modules())


@pytest.fixture(scope="module")
def alone(shards):
    values, kept = measured(World(), str(shards), 4)
    assert kept
    assert values.keys() == {"val_accuracy", "val_loss", "knn_accuracy"}
    assert 0 < values["val_accuracy"] < 1, "a value that says nothing would prove nothing"
    return values


def assert_same(values, expected):
    assert values["val_accuracy"] == expected["val_accuracy"]
    assert values["knn_accuracy"] == expected["knn_accuracy"]
    assert values["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5)


def test_ranks_measure_what_one_process_does(shards, alone):
    ranks = Ranks(2)
    try:
        both = ranks.run(measured, str(shards), 3)
    finally:
        ranks.stop()
    assert both[0] == both[1], "every rank knows the same value"
    assert both[0][1]
    assert_same(both[0][0], alone)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_values_do_not_depend_on_the_batch_size(shards, alone, batch_size):
    assert_same(measured(World(), str(shards), batch_size)[0], alone)


def test_the_loss_of_averaged_probabilities_is_their_own(shards, alone):
    values, _ = measured(World(), str(shards), 4, "probabilities")
    assert values["val_loss"] != pytest.approx(alone["val_loss"], rel=1e-4)
    assert values["val_loss"] > 0


def test_parts_of_epochs_become_steps(shards):
    config = load_run(RECIPE, [f"--data.root={shards}"]).config
    config = replace(config, validate=replace(config.validate, every_epochs=0.5))
    videos = config.data.open()
    method = load_run(RECIPE).build_method(DatasetFacts(len(videos), 3))
    (measure,) = online_measures(config, videos, method, world=World(), sharing=1, steps_per_epoch=5)
    assert measure.every == 2


def test_knn_is_that_of_each_video_among_the_others_of_the_named_set(shards, tmp_path):
    other = small_dataset(tmp_path / "other", videos=18, classes=("x", "y"))
    settings = {
        "data.root": shards, "online.root": other, "online.split": "test", "online.every_epochs": 1,
        "online.neighbours": 1, "online.num_clips": 2, "method.backbone.width": 4, "eval.size": 16,
        "validate.source": "none", "data.held_out": 0, "eval.feature": "pooled",
    }  # fmt: skip
    loaded = load_run(RECIPE, [f"--{name}={value}" for name, value in settings.items()])
    config, videos = loaded.config, ShardSet(other, split="test")
    method = loaded.build_method(DatasetFacts(10, 3)).train()
    (measure,) = online_measures(config, config.data.open(), method, world=World(), sharing=1, steps_per_epoch=5)
    found = measure.measure(method, lambda stage: None)

    method.eval()
    clips = evaluation_clips(replace(config.eval, num_clips=2))
    rows = []
    for index in range(len(videos)):
        (batch,) = evaluation_batches(videos, clips, config=PipelineConfig(), indices=[index], batch_size=1)
        with torch.no_grad():
            rows.append(torch.stack([method.backbone.pooled(clip)[0] for clip in batch.clips]).mean(dim=0).double())
    right = 0
    for index, row in enumerate(rows):
        cosines = [torch.cosine_similarity(row, one, dim=0).item() for one in rows]
        nearest = max((place for place in range(len(rows)) if place != index), key=cosines.__getitem__)
        right += videos.labels[nearest] == videos.labels[index]
    assert found == {"knn_accuracy": pytest.approx(right / len(videos))}
    assert len(videos) == 6
