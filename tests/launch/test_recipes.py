"""Every recipe of configs/, at reduced size: it trains, survives a kill, and says where it comes from."""

import math
import re

import pytest

from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.log import read_log
from launch import cli
from launch.config import load_run
from tests.launch.recipes import DEMO, PRETRAIN, SMOKE, reduced
from tests.launch.runs import TORCHRUN, assert_same_run, complete, finish, start, stop_at

STEPS = 40


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


@pytest.mark.parametrize("recipe", PRETRAIN, ids=name)
def test_every_pretraining_recipe_names_paper_number_source_and_command(recipe):
    head = re.match(r"(?:#.*\n)+", recipe.read_text(encoding="utf-8"))
    assert head, "a recipe opens with a comment"
    comment = " ".join(line.lstrip("# ") for line in head[0].splitlines())
    parts = dict(
        re.findall(r"(Follows|Differs|Command|Expect):\s+(.*?)(?=\s+(?:Follows|Differs|Command|Expect):|$)", comment)
    )
    assert parts.keys() == {"Follows", "Differs", "Command", "Expect"}
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
