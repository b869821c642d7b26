import json

import pytest
import torch

from launch import cli
from models.weights.architecture import build, find_kind, naming
from models.weights.exported import load_backbone, load_weights
from tests.models.weights.saved_files import published_state, saved_as

WORDS = ["--backbone", "r3d", "--set", "width=2"]


@pytest.fixture
def theirs(tmp_path):
    """A checkpoint as IIC saves it."""
    kind = find_kind("r3d")
    backbone = build(kind, {"width": 2})
    state = published_state(backbone, naming(kind, "iic"))
    torch.save(saved_as("iic", state, state), tmp_path / "ckpt.pth")
    return tmp_path / "ckpt.pth"


def run(*words):
    return cli.main(["import", *map(str, words)])


def test_a_checkpoint_of_another_program_comes_in_with_a_report(theirs, tmp_path, capsys):
    out = tmp_path / "r3d.safetensors"
    assert run(theirs, out, *WORDS, "--frames", 16, "--size", 112) == 0
    said = capsys.readouterr()
    assert "entry 'model', names of layout iic" in said.err
    assert "missing     0" in said.err
    assert "left out    2 of heads and others: linear (2)" in said.err
    assert str(out) in said.out
    weights, card = load_weights(out)
    their_state = torch.load(theirs, weights_only=False)["model"]
    for key, value in weights.backbone.state_dict().items():
        assert torch.equal(value, their_state[naming(find_kind("r3d"), "iic")(key)])
    assert card.layout == "intravid"
    assert card.clips is not None
    assert (card.clips.frames, card.clips.size) == (16, 112)
    assert json.loads(out.with_suffix(".json").read_text())["provenance"]["source"] == "ckpt.pth"


def test_a_partial_file_is_refused_with_the_report_unless_it_is_allowed(theirs, tmp_path, capsys):
    content = torch.load(theirs, weights_only=False)
    del content["model"]["bn1.weight"]
    torch.save(content, theirs)
    out = tmp_path / "out.safetensors"
    assert run(theirs, out, *WORDS) == 2
    said = capsys.readouterr().err
    assert "missing     1 (bn1.weight)" in said
    assert "not a whole backbone" in said.splitlines()[-1]
    assert not out.exists()
    assert run(theirs, out, *WORDS, "--allow-partial") == 0
    assert load_weights(out)[1].provenance["not_loaded"] == ["bn1.weight"]
    assert torch.equal(load_backbone(out).state_dict()["stem.1.weight"], torch.ones(2))  # as it is built


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["FILE", "OUT"], "ckpt.pth is not a file of intravid, so --backbone must name its network"),
        (["FILE", "OUT", "--set", "width=2"], "--set go with --backbone"),
        (["FILE", "OUT", "--backbone", "r3x"], "there is no backbone 'r3x'; did you mean r3d"),
        (["FILE", "OUT", "--backbone", "r3d"], "bn1.weight [2] instead of [64]"),
        (["FILE", "OUT", "--backbone", "r3d", "--set", "layers=[1,1,1,2]", "width=2"], "conv5.blocks.0.conv1"),
        (["FILE", "OUT", "--backbone", "r3d", "--set", "width"], "--set width: expected NAME=VALUE"),
        (["FILE", "OUT", "--backbone", "r3d", "--set", "width=[two]"], "--set width: expected int, got"),
        (["FILE", "OUT", "--backbone", "r3d", "--set", "widht=2"], "did you mean width?"),
        (["FILE", "OUT", *WORDS, "--layout", "intravid"], "nothing in the file has a name"),
        (["FILE", "OUT", *WORDS, "--entry", "ema"], "no state dict 'ema'; it has 'model', 'contrast'"),
        (["FILE", "OUT", *WORDS, "--frames", "16"], "give both or neither"),
        (["FILE", "OUT", *WORDS, "--mean", "0", "0", "0"], "--mean and --std go with --frames and --size"),
        (["none.pth", "OUT", *WORDS], "there is no file none.pth"),
        (["FILE", "out.bin", *WORDS], "weights are written as .safetensors"),
    ],
    ids=lambda value: " ".join(value[2:]) if isinstance(value, list) else "",
)
def test_wrong_input_is_told_with_status_2_and_nothing_is_written(theirs, tmp_path, capsys, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    places = {"FILE": theirs, "OUT": "out.safetensors"}
    assert run(*(places.get(word, word) for word in words)) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("intravid: error: ")
    assert told in last
    assert list(tmp_path.iterdir()) == [theirs]
