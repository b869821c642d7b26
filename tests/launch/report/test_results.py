"""Tables of measures: their controls, chance, published numbers, and how old they are."""

import math
from dataclasses import replace

import pytest

from launch.config import load_run
from launch.report.results import results
from launch.results import ONE_FRAME, Results
from tests.launch.report.made_runs import cells, results_of, run_with
from tests.launch.runs import ROOT


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


@pytest.mark.parametrize("weights", ["pretrained", "pretrained/checkpoints/best", "pretrained/checkpoints/step-5.pt"])
def test_a_fine_tuned_run_stands_beside_what_was_published_for_what_it_began_with(tmp_path, weights):
    recipe = ROOT / "configs" / "pretrain" / "dualvar_simclr_r21d_ucf101.yaml"
    (tmp_path / "pretrained" / "checkpoints").mkdir(parents=True)
    (tmp_path / "pretrained" / "config.yaml").write_text(recipe.read_text())
    settings = load_run(ROOT / "configs" / "eval" / "finetune_dualvar_r21d_ucf101.yaml").plain
    tables = {"test": results_of(480, {"x": {"top1": 60.0}})}
    made = results([run_with(tables, settings={**settings, "finetune": {"weights": str(tmp_path / weights)}})])
    head, *rows = cells(made, table=0)
    of = {row[0]: dict(zip(head[1:], row[1:], strict=False)) for row in rows}
    assert of["published: dualvar_simclr_r21d_ucf101"]["fine-tuned, UCF101"] == "79.0"
    assert not [one for one in head if one.startswith("retrieve")], "retrieval was published for the pretrained network"


@pytest.mark.parametrize("weights", ["none", "", "gone", "gone/weights.safetensors"])
def test_a_run_that_began_with_no_runs_weights_has_no_published_numbers(tmp_path, weights):
    settings = load_run(ROOT / "configs" / "eval" / "finetune_dualvar_r21d_ucf101.yaml").plain
    given = str(tmp_path / weights) if weights.startswith("gone") else weights
    made = results([run_with({}, settings={**settings, "finetune": {"weights": given}})])
    assert "No published number is known for Supervised" in "".join("".join(one.itertext()) for one in made)
