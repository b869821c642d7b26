import json
import os

import pytest
import torch

from engine.checkpoint import backbone_weights, latest_checkpoint, read_checkpoint
from launch import cli
from launch.results import read_results
from models.weights.exported import load_backbone, load_weights
from models.weights.tensor_file import read_tensor_file
from tests.launch.runs import pretrain_words

SMALL = {"eval.num_clips": 2, "eval.num_frames": 4, "eval.size": 16, "eval.resize": "null"}


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    """A run of three steps that has saved after two, too."""
    folder = tmp_path_factory.mktemp("run")
    settings = {"train.steps": 3, "train.save_every": 2, "train.ema": 0.5, **SMALL}
    assert cli.main(pretrain_words(folder, shards, settings)) == 0
    return folder


def saved_weights(run, step=3):
    return backbone_weights(read_checkpoint(run / "checkpoints" / f"step-{step:09d}.pt"))


def assert_same(state, other):
    assert state.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in state.items())


def test_the_backbone_of_a_run_is_written_with_a_card_and_read_back_bit_by_bit(run, tmp_path, capsys):
    out = tmp_path / "deep" / "r3d.safetensors"
    assert cli.main(["export", str(run), str(out)]) == 0
    assert_same(load_backbone(out).state_dict(), saved_weights(run))
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["settings"] == {"layers": [1, 1, 1, 1], "width": 2}
    assert card["clips"] == {"frames": 4, "size": 16, "mean": [0.0] * 3, "std": [1.0] * 3}
    assert card["provenance"]["step"] == 3
    assert card["provenance"]["method"] == "models.methods.iic.IIC"
    assert len(card["provenance"]["source_sha256"]) == len(card["provenance"]["config_sha256"]) == 64
    said = capsys.readouterr().out
    assert f"{card['num_parameters']:,} parameters" in said
    assert str(out) in said
    assert sorted(os.listdir(out.parent)) == ["r3d.json", "r3d.safetensors"]


def test_the_moving_average_is_written_where_it_is_asked_for_and_its_card_says_so(run, tmp_path, capsys):
    out = tmp_path / "ema.safetensors"
    assert cli.main(["export", str(run), str(out), "--weights", "ema"]) == 0
    state = read_checkpoint(latest_checkpoint(run))
    assert_same(load_backbone(out).state_dict(), backbone_weights(state, averaged=True))
    assert not torch.equal(load_backbone(out).state_dict()["stem.0.weight"], saved_weights(run)["stem.0.weight"])
    assert json.loads(out.with_suffix(".json").read_text())["provenance"]["weights"] == "ema"
    assert cli.main(["export", str(out), str(tmp_path / "again"), "--weights", "ema"]) == 2
    assert "has one state only" in capsys.readouterr().err


def test_the_moving_average_is_judged_where_it_is_asked_for(run, capsys):
    assert cli.main(["knn", str(run), "--weights", "ema"]) == 0
    assert json.loads((run / "eval-knn.json").read_text())["weights"] == "step 3, averaged"
    assert cli.main(["knn", str(run / "config.yaml"), "--weights", "ema"]) == 2
    assert "--weights ema is of a run" in capsys.readouterr().err


def test_a_file_that_was_exported_comes_in_again_as_the_same_bytes(run, tmp_path):
    first, again, back = (tmp_path / f"{name}.safetensors" for name in ("first", "again", "back"))
    assert cli.main(["export", str(run), str(first)]) == 0
    assert cli.main(["import", str(first), str(again)]) == 0
    assert first.read_bytes() == again.read_bytes()
    assert cli.main(["export", str(first), str(back), "--layout", "iic"]) == 0
    assert "conv1.temporal_spatial_conv.weight" in read_tensor_file(back)[0]
    assert cli.main(["export", str(back), str(again)]) == 0
    assert first.read_bytes() == again.read_bytes()


def test_names_of_a_layout_come_in_without_our_card(run, tmp_path):
    named, plain, out = (tmp_path / name for name in ("named.safetensors", "theirs.pth", "out.safetensors"))
    assert cli.main(["export", str(run), str(named), "--layout", "iic"]) == 0
    torch.save({"model": read_tensor_file(named)[0]}, plain)
    assert cli.main(["import", str(plain), str(out), "--backbone", "r3d", "--set", "width=2"]) == 0
    assert_same(load_backbone(out).state_dict(), saved_weights(run))


def test_an_earlier_step_or_a_checkpoint_may_be_named(run, tmp_path):
    by_step, by_name = tmp_path / "step.safetensors", tmp_path / "name.safetensors"
    assert cli.main(["export", str(run), str(by_step), "--step", "2"]) == 0
    checkpoint = run / "checkpoints" / "step-000000002.pt"
    assert cli.main(["export", str(checkpoint), str(by_name)]) == 0
    assert by_step.read_bytes() == by_name.read_bytes()
    assert_same(load_backbone(by_step).state_dict(), saved_weights(run, step=2))
    assert any(not torch.equal(value, saved_weights(run)[key]) for key, value in saved_weights(run, step=2).items())


def test_a_checkpoint_that_was_moved_away_from_its_run_is_exported(run, tmp_path):
    moved = tmp_path / "best.pt"
    moved.write_bytes(latest_checkpoint(run).read_bytes())
    assert cli.main(["export", str(moved), str(tmp_path / "a.safetensors")]) == 0
    assert_same(load_backbone(tmp_path / "a.safetensors").state_dict(), saved_weights(run))


def test_the_program_of_torch_export_gives_the_same_feature_maps(run, tmp_path):
    out = tmp_path / "r3d.safetensors"
    assert cli.main(["export", str(run), str(out), "--torch-export"]) == 0
    program = torch.export.load(out.with_suffix(".pt2")).module()
    backbone = load_backbone(out).eval()
    for batch in (1, 3):
        clips = torch.rand(batch, 3, 4, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(program(clips), backbone(clips), rtol=0, atol=0)


def test_an_exported_file_is_judged_as_its_run_is(run, tmp_path, capsys):
    out = tmp_path / "r3d.safetensors"
    assert cli.main(["export", str(run), str(out)]) == 0
    assert cli.main(["knn", str(run)]) == 0
    of_run = read_results(run)["knn"].judged
    (run / "eval-knn.json").unlink()
    capsys.readouterr()
    assert cli.main(["knn", str(run), "--weights", str(out), "--controls"]) == 0
    said = capsys.readouterr().out
    (row,) = (line for line in said.splitlines() if "weights r3d.safetensors" in line)
    assert f"{of_run['knn']:.1f}" in row
    assert "random network" in said
    assert not (run / "eval-knn.json").exists()  # which is of the run's own weights


def test_clips_are_normalised_as_the_weights_were_trained(run, tmp_path):
    from launch.evaluate import open_subject

    theirs, out = tmp_path / "theirs.pth", tmp_path / "out.safetensors"
    torch.save(saved_weights(run), theirs)
    words = ["--backbone", "r3d", "--set", "width=2", "--frames", "4", "--size", "16"]
    assert (
        cli.main(["import", str(theirs), str(out), *words, "--mean", "0.5", "0.5", "0.5", "--std", "2", "2", "2"]) == 0
    )
    assert open_subject(run).config.mean == (0.0, 0.0, 0.0)
    judged = open_subject(run, weights=out)
    assert (judged.config.mean, judged.config.std) == ((0.5, 0.5, 0.5), (2.0, 2.0, 2.0))
    asked = open_subject(run, ["--eval.mean=[0.1,0.1,0.1]"], weights=out)
    assert asked.config.mean == (0.1, 0.1, 0.1)
    first = asked.untrained().state_dict()
    assert any(not torch.equal(value, first[key]) for key, value in asked.backbone.state_dict().items())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere", "a.safetensors"], "there is no checkpoint in nowhere"),
        (["RUN", "a.pt"], "weights are written as .safetensors, not .pt; give a.safetensors"),
        (["RUN", "a.safetensors", "--layout", "torchvision"], "has no layout 'torchvision'; it has intravid, iic"),
        (["RUN", "a.safetensors", "--step", "1"], "there is no checkpoint of step 1"),
        (["CHECKPOINT", "a.safetensors", "--step", "3"], "is one checkpoint"),
        (["FOREIGN", "a.safetensors"], "weights of other programs come in by intravid import"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_paragraph_and_status_2(run, tmp_path, capsys, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"w": torch.ones(2)}}, "foreign.pth")
    places = {"RUN": run, "CHECKPOINT": latest_checkpoint(run), "FOREIGN": "foreign.pth"}
    assert cli.main(["export", *(str(places.get(word, word)) for word in words)]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "foreign.pth"]


def test_a_program_needs_clips_of_known_size(run, tmp_path, capsys):
    plain, out = tmp_path / "plain.pth", tmp_path / "out.safetensors"
    torch.save(saved_weights(run), plain)
    assert cli.main(["import", str(plain), str(out), "--backbone", "r3d", "--set", "width=2"]) == 0
    assert cli.main(["export", str(out), str(tmp_path / "b.safetensors"), "--torch-export"]) == 2
    assert "--frames and --size" in capsys.readouterr().err
    assert load_weights(out)[0].clips is None
