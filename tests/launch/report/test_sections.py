"""Sections on their own, where a small run cannot show what they do."""

from collections import Counter
from types import SimpleNamespace

import torch

from launch.config import load_run
from launch.report.confusion import confusion, of_test
from launch.report.inputs import pretext_labels
from launch.results import Results
from models.method import DatasetFacts
from pipelines.plan import sample_rng
from tests.launch.report.made_runs import cells
from tests.launch.runs import ROOT


def judged(labels, predicted, classes):
    """A look at videos that a classifier takes for something."""
    labels, predicted = torch.tensor(labels), torch.tensor(predicted)
    seen = SimpleNamespace(labels=labels, extent=f"{len(labels)} videos")
    return SimpleNamespace(
        votes=torch.zeros(len(labels), len(classes)),
        predicted=predicted,
        nearest=torch.arange(len(labels))[:, None],  # each is its own nearest
        query=seen,
        gallery=seen,
        classes=classes,
        config=SimpleNamespace(neighbours=10),
    )


def test_of_many_classes_the_commonest_mistakes_are_listed():
    names = tuple(f"class {number:02d}" for number in range(30))
    labels = [number for number in range(30) for _ in range(4)]
    predicted = list(labels)
    predicted[8:12] = [5, 5, 5, 2]  # three of class 2 are taken for 5
    predicted[40] = 11
    head, *rows = cells(confusion(judged(labels, predicted, names)), table=0)
    assert head == ["is", "taken for", "videos"]
    assert rows == [["class 02", "class 05", "3 of 4"], ["class 10", "class 11", "1 of 4"]]
    _, *by_class = cells(confusion(judged(labels, predicted, names)), table=1)
    assert by_class[-1] == ["class 02", "4", "25.0", "100.0"]
    assert by_class[0][2] == "100.0"


def found_by_test(confusion):
    count = sum(sum(row.values()) for row in confusion.values())
    return Results("step 3", "shards", "", 0, "test", count, len(confusion), confusion=confusion)


def test_the_confusion_of_a_test_is_shown_with_its_classes():
    shown = of_test(found_by_test({"walk": {"walk": 2, "run": 2}, "run": {"run": 3}, "sit": {"walk": 1}}))
    head, *rows = cells(shown, table=0)
    assert head[1:] == ["walk", "run", "sit"]
    assert rows == [["walk", "2", "2", ""], ["run", "", "3", ""], ["sit", "1", "", ""]]
    assert cells(shown, table=1)[1:] == [["run", "3", "100.0"], ["walk", "4", "50.0"], ["sit", "1", "0.0"]]


def test_of_many_tested_classes_mistakes_are_listed():
    confusion = {f"class {number:02d}": {f"class {number:02d}": 4} for number in range(30)}
    confusion["class 07"] = {"class 07": 1, "class 09": 3}
    shown = of_test(found_by_test(confusion))
    assert cells(shown, table=0)[1:] == [["class 07", "class 09", "3 of 4"]]
    assert cells(shown, table=1)[-1] == ["class 07", "4", "25.0"]


def test_a_class_that_is_only_ever_guessed_has_a_column():
    rows = cells(confusion(judged([0, 0, 1], [0, 2, 1], ("a", "b", "c"))), table=0)
    assert rows[0][1:] == ["a", "b", "c"]
    assert rows[1:] == [["a", "1", "", "1"], ["b", "", "1", ""], ["c", "", "", ""]]


def test_pretext_labels_are_those_that_the_planner_draws(shards):
    loaded = load_run(ROOT / "configs" / "smoke" / "cstp.yaml", [f"--data.root={shards}"])
    found = pretext_labels(SimpleNamespace(subject=SimpleNamespace(loaded=loaded)))
    videos = loaded.config.data.open()
    planner = loaded.build_method(DatasetFacts(len(videos), 2)).planner()
    expected = {}
    for index in range(len(videos)):
        targets = planner(sample_rng(loaded.config.train.seed, 0, index), videos[index]).targets
        for name in ("spatial", "temporal", "playback", "turns"):
            expected.setdefault(name, Counter()).update(targets[name].reshape(-1).tolist())
    assert {name: found[name] for name in expected} == expected


def test_of_orders_the_orders_are_counted(shards):
    loaded = load_run(ROOT / "configs" / "smoke" / "dualvar.yaml", [f"--data.root={shards}"])
    found = pretext_labels(SimpleNamespace(subject=SimpleNamespace(loaded=loaded)))
    assert set(found["segment_order"]) == {"0 1", "1 0"}
    assert found["segment_order"].total() == len(loaded.config.data.open())
