"""Every recipe of configs/, at reduced size: it trains, survives a kill, and says where it comes from."""

import math
import re

import pytest

from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.log import read_log
from launch import cli
from launch.config import load_run
from launch.report.published import PUBLISHED
from tests.launch.recipes import CONFIGS, DEMO, FINETUNE, PRETRAIN, SMOKE, parameters, reduced
from tests.launch.runs import TORCHRUN, assert_same_run, complete, finish, start, stop_at

STEPS = 40
PAPERS = ("iic_r3d_ucf101", "vtdl_i3d_hmdb51", "dualvar_simclr_r21d_ucf101", "cstp_r21d_ucf101")


def name(recipe):
    return f"{recipe.parent.name}/{recipe.stem}"


@pytest.mark.parametrize("recipe", PRETRAIN + SMOKE + DEMO, ids=name)
def test_two_steps_of_every_recipe_at_reduced_size_have_finite_losses(recipe, shards, flow_shards, tmp_path):
    path = reduced(recipe, run=tmp_path, shards=shards, flow=flow_shards)
    assert cli.main(["pretrain", str(path)]) == 0
    first, second = read_log(tmp_path / "log.jsonl")
    assert (first["step"], second["step"]) == (1, 2)
    for record in (first, second):
        values = {**record["losses"], **record["metrics"]}
        assert record["losses"].keys() - {"total"}
        assert all(math.isfinite(value) for value in values.values()), values


@pytest.mark.parametrize("length", [{"steps": 4}, {"steps": None, "epochs": 1}], ids=["steps", "epochs"])
def test_a_rising_momentum_knows_how_long_the_run_is(length, shards, tmp_path):
    (recipe,) = (path for path in SMOKE if path.stem == "byol")
    assert cli.main(["pretrain", str(reduced(recipe, run=tmp_path, shards=shards, **length))]) == 0
    seen = [record["metrics"]["target_momentum"] for record in read_log(tmp_path / "log.jsonl")]
    expected = [1 - 0.004 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert seen == pytest.approx(expected, abs=1e-6)


def parts_of(recipe):
    """What the head comment tells, by its four words."""
    head = re.match(r"(?:#.*\n)+", recipe.read_text(encoding="utf-8"))
    assert head, "a recipe opens with a comment"
    comment = " ".join(line.lstrip("# ") for line in head[0].splitlines())
    parts = dict(
        re.findall(r"(Follows|Differs|Command|Expect):\s+(.*?)(?=\s+(?:Follows|Differs|Command|Expect):|$)", comment)
    )
    assert parts.keys() == {"Follows", "Differs", "Command", "Expect"}
    return parts


@pytest.mark.parametrize("recipe", parameters(FINETUNE, first=False), ids=name)
def test_two_steps_of_every_fine_tuning_at_reduced_size_are_judged_on_what_is_held_out(recipe, shards, tmp_path):
    assert cli.main(["finetune", str(reduced(recipe, run=tmp_path, shards=shards)), "--weights=none"]) == 0
    first, last = read_log(tmp_path / "log.jsonl")
    assert (first["step"], last["step"]) == (1, 2)
    assert math.isfinite(last["losses"]["total"])
    assert 0 <= last["evals"]["val_accuracy"] <= 1
    assert math.isfinite(last["evals"]["val_loss"])
    best = latest_checkpoint(tmp_path / "checkpoints" / "best")
    assert read_checkpoint(best).best["measure"] == load_run(recipe).config.train.keep_best
    assert len((tmp_path / "held-out.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize("paper", PAPERS)
def test_each_papers_pretraining_is_fine_tuned_tested_and_reported(paper, shards, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    assert cli.main(["pretrain", str(reduced(CONFIGS / "pretrain" / f"{paper}.yaml", run=before, shards=shards))]) == 0
    recipe = next(one for one in FINETUNE if f"--weights runs/{paper} " in parts_of(one)["Command"])
    assert cli.main(["finetune", str(reduced(recipe, run=after, shards=shards)), f"--weights={before}"]) == 0
    ours, theirs = (read_checkpoint(latest_checkpoint(run)).method for run in (after, before))
    ours, theirs = ({key for key in keys if key.startswith("backbone.")} for keys in (ours, theirs))
    assert ours == theirs
    assert cli.main(["test", str(after / "checkpoints" / "best")]) == 0
    assert cli.main(["report", str(after), "-o", str(tmp_path / "page.html"), "--pictures", "0"]) == 0
    assert "val accuracy" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("recipe", FINETUNE, ids=name)
def test_every_fine_tuning_names_paper_number_weights_and_command(recipe):
    parts = parts_of(recipe)
    assert re.search(r"arXiv \d{4}\.\d{4,5}", parts["Follows"])
    found = re.match(
        rf"intravid finetune configs/eval/{recipe.name} --weights runs/(\w+) --data.root shards/(ucf101|hmdb51) "
        rf"--run_dir runs/{recipe.stem}, then intravid test runs/{recipe.stem}/checkpoints/best$",
        parts["Command"],
    )
    assert found, parts["Command"]
    assert "held out" in parts["Differs"]
    assert "Not measured here" in parts["Expect"]
    weights, dataset = found.groups()
    ours, theirs = (load_run(one).plain["method"]["init_args"]["backbone"] for one in (
        recipe, CONFIGS / "pretrain" / f"{weights}.yaml"))  # fmt: skip
    settings = [dict(one.get("init_args") or {}) for one in (ours, theirs)]
    assert ours["class_path"] == theirs["class_path"]
    assert [{key: value for key, value in one.items() if key != "legacy_init"} for one in settings[:1]] == [
        {key: value for key, value in one.items() if key != "legacy_init"} for one in settings[1:]
    ]
    known = next((one.finetuned[dataset == "hmdb51"] for one in PUBLISHED if one.recipe == weights), None)
    assert str(known) in parts["Expect"] if known else "no number" in parts["Expect"]


@pytest.mark.parametrize("recipe", PRETRAIN, ids=name)
def test_every_pretraining_recipe_names_paper_number_source_and_command(recipe):
    parts = parts_of(recipe)
    assert re.search(r"arXiv \d{4}\.\d{4,5}", parts["Follows"]), "the paper, as arXiv number"
    assert f"intravid pretrain configs/pretrain/{recipe.name} --data.root " in parts["Command"]
    assert bool(load_run(recipe).plain["data"]["flow"]) == ("--data.flow " in parts["Command"])
    assert re.search(r"\d\d\.\d|about \d\d|[Nn]o (published )?number", parts["Expect"]), "the published number, or none"
    assert re.search(r"README|paper|Table|table", parts["Expect"]), "where it was published"
    assert re.search(r"[Nn]ot measured here|[Mm]easured here", parts["Expect"])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", SMOKE, ids=name)
def test_every_method_killed_and_resumed_ends_as_if_unbroken(recipe, shards, flow_shards, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = {"shards": shards, "flow": flow_shards, "steps": STEPS, "save_every": 4}
    words = ["pretrain", reduced(recipe, run=cut, **settings)]
    beside = start(["pretrain", reduced(recipe, run=whole, **settings)])
    assert stop_at(start(words), cut, 9) < STEPS
    assert "going on from step" in complete(words)
    status, said = finish(beside)
    assert status == 0, said
    assert_same_run(whole, cut, steps=STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", SMOKE, ids=name)
def test_every_method_trains_on_two_ranks(recipe, shards, flow_shards, tmp_path):
    complete(["pretrain", reduced(recipe, run=tmp_path, shards=shards, flow=flow_shards, steps=3)], under=TORCHRUN)
    assert all(math.isfinite(record["losses"]["total"]) for record in read_log(tmp_path / "log.jsonl"))
    assert read_checkpoint(latest_checkpoint(tmp_path)).world_size == 2
