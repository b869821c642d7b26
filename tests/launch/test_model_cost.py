"""`intravid inspect --model`: what it counts, of which networks, and what it refuses."""

import json
from pathlib import Path

import pytest

from launch.cli import main
from launch.config import load_run
from launch.model_cost import model_cost
from launch.weights import write_weights
from models.backbones.r3d import R3D
from models.weights.card import ClipInput
from models.weights.exported import Weights
from tests.launch.runs import ROOT

RECIPE = str(ROOT / "configs/smoke/iic.yaml")


def count(what, settings=(), overrides=(), frames=None, size=None):
    return model_cost(what, settings=settings, overrides=overrides, frames=frames, size=size)


def test_a_backbone_is_named_by_its_file_or_its_class_path():
    short, full = count("r3d"), count("models.backbones.r3d.R3D", frames=16, size=112)
    assert short == full
    assert (short.name, short.clip) == ("R3D", (3, 16, 112, 112))
    assert short.whole.parameters == 14_361_792
    assert short.whole.macs / 1e9 == pytest.approx(19.9, abs=0.05)
    assert [part.name for part in short.parts] == ["stem", "stages.0", "stages.1", "stages.2", "stages.3"]


def test_settings_of_a_backbone_are_those_of_its_class():
    cost = count("r3d", ["layers=[1,2,1,1]", "width=4"])
    assert cost.whole.parameters == sum(p.numel() for p in R3D(layers=(1, 2, 1, 1), width=4).parameters())


def test_a_recipe_brings_its_backbone_and_its_clips():
    cost = count(RECIPE, overrides=["--method.backbone.width=4", "--method.clip.num_frames=4", "--method.clip.size=16"])
    assert cost.clip == (3, 4, 16, 16)
    assert cost.whole.parameters == sum(p.numel() for p in R3D(width=4).parameters())
    assert count(RECIPE, frames=8, size=48).clip == (3, 8, 48, 48)


def test_a_run_and_its_exported_weights_cost_the_same(tmp_path):
    settings = ["--method.backbone.width=4", "--method.clip.num_frames=4", "--method.clip.size=16"]
    (tmp_path / "config.yaml").write_text(load_run(Path(RECIPE), settings).text)
    write_weights(tmp_path / "r3d.safetensors", Weights(R3D(width=4), {"width": 4}, ClipInput(4, 16)))
    assert count(str(tmp_path)) == count(str(tmp_path / "r3d.safetensors"))
    assert count(str(tmp_path)).clip == (3, 4, 16, 16)


def test_the_table_and_the_file_tell_the_same_numbers(tmp_path, capsys):
    words = ["--set", "width=8", "--frames", "8", "--size", "32", "--json", str(tmp_path / "cost.json")]
    assert main(["inspect", "--model", "r3d", *words]) == 0
    said = capsys.readouterr().out
    written = json.loads((tmp_path / "cost.json").read_text())
    assert written["clip"] == [3, 8, 32, 32]
    for part in (*written["parts"], written["all"]):
        assert f"{part['parameters']:,}" in said
        assert f"{part['macs'] / 1e9:,.3f}" in said
        assert "x".join(map(str, part["shape"])) in said
    assert written["all"]["macs"] == sum(part["macs"] for part in written["parts"])


def test_help_of_the_model_is_asked_for_with_it(capsys):
    assert main(["inspect", "--model", "--help"]) == 0
    assert "--set NAME=VALUE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--model", "r4d"], "there is no backbone 'r4d'"),
        (["--model"], "--model names no network"),
        (["--model", "r3d", "--set", "wdth=4"], "did you mean width"),
        (["--model", "r3d", "--method.backbone.width=4"], "settings of a backbone follow --set"),
        (["--model", RECIPE, "--set", "width=4"], "--set width=4 does not go with"),
        (["--model", RECIPE, "--method.backbone.wdth=4"], "did you mean method.backbone.width"),
        (["--model", "c3d", "--frames", "2"], "C3D needs clips of at least 8 frames"),
        (["--model", "r3d", "--frames", "0"], "--frames 0"),
        (["--model", "r3d", "--json", "nowhere/cost.json"], "the folder of nowhere/cost.json does not exist"),
        (["--model", "nowhere.yaml"], "there is no recipe nowhere.yaml"),
    ],
)
def test_networks_that_cannot_be_counted_are_refused(words, why, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", *words]) == 2
    assert why in capsys.readouterr().err
