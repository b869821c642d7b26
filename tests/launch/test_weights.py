import pytest
import torch

from data_process.errors import InputError, RunError
from launch.weights import open_weights, out_path, read_settings, write_program, write_weights
from models.weights.architecture import build, find_kind, full_settings, layout_settings, layouts, shipped
from models.weights.card import ClipInput
from models.weights.exported import Weights


def small(name, **settings):
    kind = find_kind(name)
    backbone = build(kind, {"width": 2, **settings})
    clips = ClipInput(max(8, backbone.min_frames), max(32, backbone.min_size))
    return Weights(backbone, full_settings(kind, {"width": 2, **settings}), clips)


@pytest.mark.parametrize("name", shipped())
def test_every_backbone_is_a_program_of_torch_export_for_any_batch(tmp_path, name):
    weights = small(name)
    program = torch.export.load(write_program(tmp_path / f"{name}.safetensors", weights)).module()
    clips = torch.rand(3, 3, weights.clips.frames, weights.clips.size, weights.clips.size)
    with torch.no_grad():
        torch.testing.assert_close(program(clips), weights.backbone(clips), rtol=0, atol=0)


@pytest.mark.parametrize("name", shipped())
def test_every_backbone_is_read_back_bit_by_bit_from_every_layout(tmp_path, name):
    kind = find_kind(name)
    for layout in layouts(kind):
        weights = small(name, **layout_settings(kind, layout))
        _, (path, _) = write_weights(tmp_path / f"{layout}.safetensors", weights, layout)
        again, before = open_weights(path), weights.backbone.state_dict()
        assert all(torch.equal(value, before[key]) for key, value in again.backbone.state_dict().items())
        assert again.backbone.state_dict().keys() == before.keys()
        assert again.settings["width"] == 2


def test_a_network_of_other_settings_is_not_written_under_the_names_of_a_layout(tmp_path):
    with pytest.raises(InputError, match=r"networks of layout torchvision have norm_eps 0\.001, not 1e-05"):
        write_weights(tmp_path / "s3d.safetensors", small("s3d"), "torchvision")
    assert list(tmp_path.iterdir()) == []


def test_settings_are_read_as_their_types():
    kind = find_kind("r3d")
    assert read_settings(kind, ["layers=[2,2,2,2]", "width=8"]) == {"layers": [2, 2, 2, 2], "width": 8}
    with pytest.raises(InputError, match=r"--set width: expected int, got 8\.5"):
        read_settings(kind, ["width=8.5"])


def test_a_number_that_yaml_takes_for_text_is_a_number():
    assert read_settings(find_kind("s3d"), ["norm_eps=1e-3"]) == {"norm_eps": 0.001}


def test_an_ending_is_added_and_others_are_refused(tmp_path):
    assert out_path(tmp_path / "r3d") == tmp_path / "r3d.safetensors"
    with pytest.raises(InputError, match=r"not \.pth; give .*r3d\.safetensors"):
        out_path(tmp_path / "r3d.pth")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        out_path(tmp_path / "folder.safetensors")


def test_a_place_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        write_weights(tmp_path / "file" / "r3d.safetensors", small("r3d"))


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    out = tmp_path / "r3d.safetensors"
    write_weights(out, small("r3d"))
    before = out.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.atomic.os.fsync", full)
    with pytest.raises(RunError, match="No space left"):
        write_weights(out, small("r3d", layers=[1, 1, 1, 2]))
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r3d.json", "r3d.safetensors"]
