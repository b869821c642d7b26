"""Sections on their own, where a small run cannot show what they do."""

import math
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import models as models_package
from data_process.errors import InputError
from launch.config import load_run
from launch.report.charts import scale
from launch.report.confusion import confusion, of_test
from launch.report.curves import curves
from launch.report.glance import glance
from launch.report.inputs import pretext_labels
from launch.report.meanings import MEANINGS
from launch.report.results import results
from launch.report.runs import RunFolder, read_runs
from launch.results import ONE_FRAME, RANDOM, Results
from models.method import DatasetFacts
from pipelines.plan import sample_rng
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


def cells(elements, *, table):
    """Texts of the rows of a table."""
    tables = [one for element in elements for one in element.iter("table")]
    return [["".join(cell.itertext()) for cell in row] for row in tables[table].iter("tr")]


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


def run_with(tables, *, step=480, settings=None):
    log = [{"step": step, "epoch": 1, "losses": {"total": 1.0}}]
    return RunFolder(ROOT, "runs/x", 0, settings or {}, "", log, tables)


def results_of(step, rows, classes=4):
    return Results(f"step {step}", "set", "train", 40, "test", 20, classes, {}, rows)


def test_a_missing_control_is_a_row_that_tells_how_to_fill_it():
    run = run_with({"knn": results_of(480, {"x (step 480)": {"knn": 30.0}})})
    rows = {row[0]: row[1:] for row in cells(results([run]), table=0)}
    assert rows["runs/x, step 480"] == ["30.0"]
    assert rows["one frame, repeated"] == [f"not measured: intravid knn {ROOT} --controls"]


@pytest.mark.parametrize("measure", ["knn", "retrieve@1", "linear", "top1"])
def test_what_is_missing_is_filled_by_the_command_of_its_measure(measure):
    run = run_with({"x": results_of(480, {"x": {measure: 30.0}})})
    rows = {row[0]: row[1:] for row in cells(results([run]), table=0)}
    command = {"retrieve@1": "retrieve", "top1": "test"}.get(measure, measure)
    assert rows["one frame, repeated"] == [f"not measured: intravid {command} {ROOT} --controls"]


def test_every_run_side_by_side_has_its_one_frame_row():
    one, other = (
        replace(run_with({"knn": results_of(480, rows)}), name=name, number=number)
        for number, (name, rows) in enumerate(
            [("a", {"a": {"knn": 60.0}, ONE_FRAME: {"knn": 13.5}}), ("b", {"b": {"knn": 50.0}})]
        )
    )
    rows = cells(results([one, other]), table=0)
    assert rows == [
        ["", "judged at", "kNN"],
        ["a", "step 480", "60.0"],
        ["a, one frame", "step 480", "13.5"],
        ["b", "step 480", "50.0"],
    ]


@pytest.mark.parametrize(("classes", "size", "k"), [(4, 10, 1), (4, 10, 5), (8, 80, 5), (2, 3, 4), (5, 1, 2)])
def test_chance_of_retrieval_is_that_of_a_shuffled_gallery(classes, size, k):
    measure, rows = f"retrieve@{k}", {"x": {f"retrieve@{k}": 90.0}}
    table = Results("step 480", "set", "train", classes * size, "test", 20, classes, {}, rows)
    found = {row[0]: row[1] for row in cells(results([run_with({"x": table})]), table=0)}
    # All choices of k places for a class's videos' rivals, counted: none of the class among the first k.
    missed = math.comb(classes * size - size, k) / math.comb(classes * size, k)
    assert found[f"chance, {classes} classes of one size"] == f"{100 * (1 - missed):.1f}", measure


@pytest.mark.parametrize("text", ["- a", "hello", "3"])
def test_a_configuration_without_settings_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match="holds no settings"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    ("text", "shown"),
    [("", ""), ("data: null", ""), ("data: {root: null}", ""), ("data: 3", ""), ("data: {root: /x/sets/a}", "sets/a"),
     ("data: {root: [/x/sets/a, /x/sets/b]}", "sets/a, sets/b")],
)  # fmt: skip
def test_a_card_tells_the_end_of_the_place_of_the_videos(tmp_path, text, shown):
    (tmp_path / "config.yaml").write_text(text)
    (made,) = glance(read_runs([tmp_path]))
    facts = {name.text: value.text for name, value in _pairs(made)}
    assert facts.get("data", "") == shown


def _pairs(made):
    (facts,) = made.iter("dl")
    return list(zip(facts[::2], facts[1::2], strict=True))


# At a glance.


def card(rows, videos=400, **settings):
    table = Results("step 480", "set", "train", 640, "test", videos, 8, {}, rows)
    (made,) = glance([run_with({"knn": table} if rows else {}, **settings)])
    return made


def verdicts(made):
    return [" ".join("".join(one.itertext()).split()) for one in made.iter("li")]


def test_a_card_says_of_each_control_whether_it_is_clearly_beaten():
    made = card({"x": {"knn": 61.5}, ONE_FRAME: {"knn": 12.5}, RANDOM: {"knn": 18.0}})
    assert verdicts(made) == ["✓ clearly above random network: +43.5 points", "✓ clearly above one frame: +49.0 points"]
    (scale,) = made.iter("svg")
    assert scale.get("aria-label").startswith("kNN accuracy 61.5 %, ")
    assert all(one in scale.get("aria-label") for one in ("random network 18.0", "one frame 12.5", "chance 12.5"))


@pytest.mark.parametrize(
    ("random", "videos", "told"),
    [(18.0, 400, "clearly above"), (18.0, 40, "not clearly above"), (28.0, 400, "not clearly"), (60.0, 400, "below")],
)
def test_a_gain_within_two_standard_errors_is_not_called_one(random, videos, told):
    (one,) = verdicts(card({"x": {"knn": 27.0}, RANDOM: {"knn": random}}, videos=videos))
    assert told in one
    assert ("✓" in one) == (told == "clearly above")


def test_a_card_without_controls_or_measures_says_so():
    assert "No control was measured" in "".join(card({"x": {"knn": 61.5}}).itertext())
    assert "Not judged yet" in "".join(card({}).itertext())


def test_marks_of_a_scale_do_not_write_over_each_other():
    made = scale(61.5, {"random network": 18.0, "one frame": 12.6, "chance": 12.5}, "kNN")
    texts = sorted((one for one in made.iter("text")), key=lambda one: float(one.get("y")))
    heights = [float(one.get("y")) for one in texts]
    assert all(below - above >= 12 for above, below in pairwise(heights))
    # A mark's line ends at its words, and words above it begin to the right of it.
    assert [float(one.get("x")) for one in texts] == sorted((float(one.get("x")) for one in texts), reverse=True)


# Curves.


def logged(*records):
    return replace(run_with({}), log=[{"epoch": 0, **record} for record in records])


def titles(made):
    """Heading to the charts below it."""
    found, last = {}, ""
    for one in made:
        if one.tag == "h3":
            last = one.text
        for figure in one.iter("figure"):
            found.setdefault(last, []).append(figure[0].text.strip())
    return found


def test_what_is_measured_on_the_way_has_curves_of_its_own():
    records = [
        {"step": 1, "losses": {"total": 2.0}, "metrics": {"found": 0.5, "feature_spread": 0.9}},
        {"step": 2, "evals": {"knn": 20.0, "val_accuracy": 0.1}, "other": {"loss": 2.0}},
        {"step": 4, "losses": {"total": 1.0}, "metrics": {"found": 0.6, "feature_spread": 0.8}},
        {"step": 4, "evals": {"knn": 30.0, "val_accuracy": 0.2}, "other": {"loss": 1.5}},
    ]
    assert titles(curves([logged(*records)])) == {
        "Losses and learning rate": ["total loss"],
        "Judged while training": ["knn", "val accuracy", "other: loss"],
        "Pretext accuracies": ["found"],
        "Other numbers of the method": ["feature spread"],
    }


def test_a_chart_says_what_its_numbers_mean_where_that_is_known():
    records = [
        {"step": step, "metrics": {"view1_found": 0.5, "odd_number": 1.0}, "evals": {"val_accuracy": 0.5}}
        for step in (1, 2)
    ]
    told = {
        figure[0].text.strip(): [one.text for one in figure.iter("div")]
        for one in curves([logged(*records)])
        for figure in one.iter("figure")
    }
    found = ["share whose positive is the nearest of all candidates"]
    assert told == {"view1 found": found, "odd number": [], "val accuracy": []}


def test_meanings_are_of_numbers_that_methods_log():
    models = Path(models_package.__file__).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in models.rglob("*.py"))
    engine = (ROOT / "engine" / "log.py").read_text(encoding="utf-8")
    assert [name for name in MEANINGS if not re.search(rf"{name}\b", source + engine)] == []


def test_of_two_tables_the_later_step_counts_and_the_page_says_how_old_it_is():
    older = results_of(100, {"x": {"knn": 20.0, "linear": 50.0}, "one frame": {"knn": 25.0, "linear": 26.0}})
    newer = results_of(240, {"x": {"knn": 31.0}})
    made = results([run_with({"all": older, "knn": newer})])
    text = "".join("".join(one.itertext()) for one in made)
    assert "Judged at step 240; the run is at step 480" in text
    assert "Judged at step 100; the run is at step 480" in text
    found = [cells(made, table=place)[1] for place in (0, 1)]
    assert sorted(found) == [["runs/x, step 100", "50.0"], ["runs/x, step 240", "31.0"]]


def test_published_numbers_stand_there_before_anything_is_measured():
    settings = load_run(ROOT / "configs" / "pretrain" / "vtdl_i3d_hmdb51.yaml").plain
    rows = cells(results([run_with({}, settings=settings)]), table=0)
    assert rows == [["", "fine-tuned, HMDB51"], ["published: vtdl_i3d_hmdb51", "52.9"]]


@pytest.mark.parametrize(
    ("folders", "names"), [(("a/x", "b/x"), ["a/x", "b/x"]), (("r/a/x", "s/a/x"), ["r/a/x", "s/a/x"])]
)
def test_runs_are_told_apart_by_the_ends_of_their_paths(tmp_path, folders, names):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "log.jsonl").write_text("")
    assert [run.name for run in read_runs([tmp_path / folder for folder in folders])] == names


def test_values_that_are_not_finite_are_left_out(tmp_path):
    lines = [
        '{"step": 1, "epoch": 0, "losses": {"total": null}, "lr": 0.5}',
        '{"step": 2, "epoch": 0, "losses": {"total": 3.0}}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    (run,) = read_runs([tmp_path])
    assert run.scalars() == {"losses.total": [(2, 3.0)], "lr": [(1, 0.5)]}
