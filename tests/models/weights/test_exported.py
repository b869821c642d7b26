import json
import sys
from dataclasses import replace

import pytest
import torch

from data_process.errors import InputError
from models.backbones.r3d import R3D
from models.weights.architecture import build, find_kind
from models.weights.card import ClipInput, read_card_text
from models.weights.exported import Weights, exported_bytes, is_exported, load_backbone, load_weights
from models.weights.tensor_file import read_tensor_file, tensor_file_bytes

SETTINGS = {"layers": (1, 2, 1, 1), "width": 2}


def weights(kind=R3D):
    backbone = build(kind, SETTINGS)
    backbone.train()(torch.rand(2, 3, 4, 16, 16))  # statistics and counters that are not the first ones
    return Weights(backbone, SETTINGS, ClipInput(4, 16, (0.5, 0.5, 0.5)), {"step": 7})


def written(path, given, layout="intravid"):
    path.write_bytes(exported_bytes(given, layout)[0])
    return path


@pytest.mark.parametrize("layout", ["intravid", "iic"])
def test_what_is_written_is_read_back_bit_by_bit(tmp_path, layout):
    given = weights()
    path = written(tmp_path / "a.safetensors", given, layout)
    read, card = load_weights(path)
    assert is_exported(path)
    for key, value in given.backbone.state_dict().items():
        assert torch.equal(read.backbone.state_dict()[key], value), key
    assert exported_bytes(read, layout)[0] == path.read_bytes()
    assert (card.layout, card.num_parameters) == (layout, sum(one.numel() for one in given.backbone.parameters()))
    assert read.settings == {"layers": [1, 2, 1, 1], "width": 2}
    assert (read.clips, read.provenance) == (given.clips, given.provenance)


def test_a_backbone_that_is_channels_last_is_read_back_too(tmp_path):
    given = weights()
    given.backbone.to(memory_format=torch.channels_last_3d)
    read = load_backbone(written(tmp_path / "a.safetensors", given))
    assert all(torch.equal(a, b) for a, b in zip(read.parameters(), given.backbone.parameters(), strict=True))


def test_names_are_those_of_the_layout(tmp_path):
    tensors, _ = read_tensor_file(written(tmp_path / "a.safetensors", weights(), "iic"))
    assert "conv3.blocks.0.conv1.temporal_spatial_conv.weight" in tensors


def test_the_card_tells_what_is_needed_to_use_the_file():
    _, card = exported_bytes(weights())
    told = json.loads(card.text())
    assert told["class_path"] == "models.backbones.r3d.R3D"
    assert told["clips"] == {"frames": 4, "size": 16, "mean": [0.5, 0.5, 0.5], "std": [1.0, 1.0, 1.0]}
    assert (told["out_dim"], told["in_channels"]) == (16, 3)
    assert read_card_text(card.text(), "the card") == replace(card, clips=card.clips)


def test_the_global_generator_stays_as_it_was(tmp_path):
    path = written(tmp_path / "a.safetensors", weights())
    before = torch.get_rng_state()
    load_backbone(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_flipped_bit_is_told(tmp_path):
    path = written(tmp_path / "a.safetensors", weights())
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged: its numbers"):
        load_backbone(path)


def test_a_cut_file_is_told(tmp_path):
    path = written(tmp_path / "a.safetensors", weights())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_backbone(path)


def test_a_class_outside_of_intravid_is_imported_on_trust_only(tmp_path, monkeypatch):
    module = "from models.backbones.r3d import R3D\n\n\nclass Outside(R3D):\n    pass\n"
    (tmp_path / "their_network.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    path = written(tmp_path / "a.safetensors", weights(find_kind("their_network.Outside")))
    assert type(load_backbone(path)).__name__ == "Outside"  # imported by the program itself
    monkeypatch.delitem(sys.modules, "their_network")
    with pytest.raises(InputError, match=r"their_network\.Outside, which is not a part of intravid.*--trust"):
        load_backbone(path)
    assert "their_network" not in sys.modules
    assert type(load_backbone(path, trust=True)).__name__ == "Outside"


def test_safetensors_without_a_card_are_sent_to_import(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(tensor_file_bytes({"w": torch.ones(1)}, "no card"))
    with pytest.raises(InputError, match=r"the card of .*cannot be read"):
        load_backbone(path)
    from safetensors.torch import save_file

    save_file({"w": torch.ones(1)}, path)
    assert not is_exported(path)
    with pytest.raises(InputError, match=r"has no card of intravid.*intravid import"):
        load_backbone(path)
    with pytest.raises(InputError, match="there is no file"):
        load_backbone(tmp_path / "none.safetensors")


def test_a_card_of_another_format_is_refused_with_its_writer():
    _, card = exported_bytes(weights())
    other = replace(card, format=2, intravid="9.0").text()
    with pytest.raises(InputError, match=r"format 2, this intravid reads 1.*9\.0"):
        read_card_text(other, "the file")


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"size": 0}, {"std": (1.0, 0.0, 1.0)}, {"mean": (0.0,)}])
def test_clips_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match="frames and size of at least 1"):
        ClipInput(**{"frames": 4, "size": 16, **wrong})


def test_a_layout_of_other_settings_is_refused(monkeypatch):
    monkeypatch.setattr("models.backbones.r3d.LAYOUT_SETTINGS", {"iic": {"width": 3}}, raising=False)
    with pytest.raises(InputError, match="networks of layout iic have width 3, not 2 as this one"):
        exported_bytes(weights(), "iic")
    exported_bytes(weights(), "intravid")
