"""Retrieval, kNN and linear probe of a network beside scikit-learn on the same features, for any ranks and batches."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from data_process.shards import ShardSet
from engine.features import EvalConfig, SplitFeatures
from engine.linear import probe_logits
from launch import cli
from launch.config import load_run
from launch.evaluate import SecondLook, evaluate, initial_backbone, measures_of
from launch.results import read_results
from tests.engine.ranks import Ranks
from tests.launch.runs import RECIPE, ROOT, pretrain_words
from tests.sample_videos import small_dataset

KS = (1, 3, 5)
SMALL = {"num_clips": 2, "num_frames": 4, "size": 16, "resize": "null", "ks": str(list(KS)), "neighbours": 7}
CLASSES = tuple("abcd")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """40 training and 20 test videos of four classes."""
    return small_dataset(tmp_path_factory.mktemp("shards"), videos=60, classes=CLASSES, frames=6)


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = {"train.steps": 1, **{f"eval.{name}": value for name, value in SMALL.items()}}
    assert cli.main(pretrain_words(folder, shards, settings)) == 0
    return folder


@pytest.fixture(scope="module", params=["conv", "centred", "each"])
def measured(run, tmp_path_factory, request):
    """What the commands tell, and the features that `extract` gives to scikit-learn."""
    words = [f"--eval.feature={'conv' if request.param == 'conv' else 'pooled'}"]
    words += {"centred": ["--eval.centre=true"], "each": ["--eval.centre=each"]}.get(request.param, [])
    told = {}
    for command in ("retrieve", "knn", "linear"):
        assert cli.main([command, str(run), *words, *([] if command == "linear" else ["--no-one-frame"])]) == 0
        told |= read_results(run)[command].judged
    out = tmp_path_factory.mktemp("features")
    assert cli.main(["extract", str(run), "-o", str(out), *words]) == 0
    parts = {}
    for split in ("train", "test"):
        index = json.loads((out / f"{split}.json").read_text())
        parts[split] = np.load(out / f"{split}.npy").astype(np.float64), np.array(index["labels"])
    return request.param, told, parts["train"], parts["test"]


def centred(how, gallery, query):
    if how == "each":
        return gallery - gallery.mean(axis=0), query - query.mean(axis=0)
    mean = gallery.mean(axis=0) if how == "centred" else 0.0
    return gallery - mean, query - mean


def test_retrieval_is_scikit_learns(measured):
    how, told, (gallery, labels), (query, wanted) = measured
    gallery, query = centred(how, gallery, query)
    nearest = NearestNeighbors(n_neighbors=max(KS), metric="cosine", algorithm="brute").fit(gallery)
    found = labels[nearest.kneighbors(query, return_distance=False)]
    for k in KS:
        hits = (found[:, :k] == wanted[:, None]).any(axis=1)
        assert told[f"retrieve@{k}"] == pytest.approx(100 * hits.mean(), abs=1e-6)


def test_knn_is_scikit_learns(measured):
    how, told, (gallery, labels), (query, wanted) = measured
    gallery, query = centred(how, gallery, query)
    theirs = KNeighborsClassifier(
        7, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(gallery, labels)
    assert told["knn"] == pytest.approx(100 * theirs.score(query, wanted), abs=1e-6)


def test_linear_probe_is_scikit_learns(measured):
    _, told, (gallery, labels), (query, wanted) = measured
    spread = gallery.std(axis=0, ddof=1)
    gallery, query = ((part - gallery.mean(axis=0)) / np.where(spread > 1e-12, spread, 1) for part in (gallery, query))
    # scikit-learn minimises C times the summed loss plus half the squared norm.
    theirs = LogisticRegression(C=1 / (1e-3 * len(labels)), tol=1e-12, max_iter=20000).fit(gallery, labels)
    assert told["linear"] == pytest.approx(100 * theirs.score(query, wanted), abs=1e-6)


def test_centring_each_split_moves_cosines_and_not_the_linear_probe():
    rng = np.random.default_rng(3)
    labels = torch.arange(40) % 4
    gallery, query = (
        SplitFeatures(torch.from_numpy(rng.normal(size=(40, 5)) + shift), labels) for shift in (0.0, 30.0)
    )
    seen = {}
    for centre in (False, "each"):
        config = EvalConfig(centre=centre, ks=(1,))
        seen[centre] = measures_of(gallery, query, config, ("retrieve", "knn", "linear"))
    assert seen[False]["linear"] == seen["each"]["linear"]
    assert seen[False] != seen["each"]


def test_probabilities_of_the_probe_are_scikit_learns():
    rng = np.random.default_rng(8)
    labels = np.arange(80) % 4
    train, test = (rng.normal(size=(80, 9)) * 5 + 2 + rng.normal(size=(4, 9))[labels] * 3 for _ in range(2))
    mean, spread = train.mean(axis=0), train.std(axis=0, ddof=1)
    theirs = LogisticRegression(C=1 / (1e-2 * 80), tol=1e-12, max_iter=20000).fit((train - mean) / spread, labels)
    given = torch.from_numpy(train), torch.from_numpy(labels), torch.from_numpy(test)
    ours = probe_logits(*given, num_classes=4, l2=1e-2).softmax(dim=1)
    np.testing.assert_allclose(ours, theirs.predict_proba((test - mean) / spread), atol=1e-6)


def judged(world, root, batch_size):
    """All measures of a network with first weights, alone and merged."""
    words = [f"--{name}={value}" for name, value in {"method.backbone.width": 2, "dist.device": "cpu"}.items()]
    loaded = load_run(ROOT / RECIPE, [*words, *(f"--eval.{name}={value}" for name, value in SMALL.items())])
    config = replace(loaded.config.eval, batch_size=batch_size)
    videos = ShardSet(root, split="train"), ShardSet(root, split="test")
    backbone = initial_backbone(loaded)
    alone = evaluate(backbone, videos, config, world=world)
    second = SecondLook("residual", backbone, replace(config, modality="residual"), videos)
    return alone, evaluate(backbone, videos, config, world=world, merged=second)


@pytest.fixture(scope="module")
def alone(shards):
    return judged(None, shards, 8)


@pytest.mark.parametrize("batch_size", [1, 60])
def test_any_batch_size_measures_the_same(alone, shards, batch_size):
    assert judged(None, shards, batch_size) == alone
    assert alone[0].keys() == {"retrieve@1", "retrieve@3", "retrieve@5", "knn", "linear"}
    assert alone[0] != alone[1], "what is merged must count"


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_two_and_three_processes_measure_what_one_does(alone, shards, ranks):
    group = Ranks(ranks)
    try:
        # Neither 20 test nor 40 training videos divide by 3, nor the ranks' parts by a batch of 3.
        assert group.run(judged, shards, 3) == [alone] * ranks
    finally:
        group.stop()


def test_the_features_compared_are_not_all_alike(measured):
    _, told, (gallery, _), _ = measured
    assert len(np.unique(gallery.round(6), axis=0)) == len(gallery)
    assert 0 < told["knn"] < 100
