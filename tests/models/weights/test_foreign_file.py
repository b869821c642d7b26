import argparse
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from data_process.errors import InputError
from models.weights.foreign_file import read_foreign, state_dicts
from models.weights.tensor_file import tensor_file_bytes

TOUCHED = []


def touch():
    TOUCHED.append(1)
    return 1


class Harmful:
    """Runs a function when it is read."""

    def __reduce__(self):
        return touch, ()


@pytest.mark.parametrize("zipped", [True, False], ids=["new format", "old format"])
def test_options_and_numbers_beside_weights_are_read_without_trust(tmp_path, zipped):
    path = tmp_path / "a.pth"
    content = {
        "opt": argparse.Namespace(lr=0.1),
        "best_acc": np.float64(3.5),
        "epoch": 2,
        "model": {"w": torch.ones(2)},
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = read_foreign(path)
    assert read["opt"].lr == 0.1
    assert read["best_acc"] == 3.5
    assert [(name, list(state)) for name, state in state_dicts(read)] == [("model", ["w"])]


def test_numbers_of_numpy_before_version_2_are_read(tmp_path):
    path = tmp_path / "a.pth"
    buffer = io.BytesIO()
    torch.save({"best": np.float64(2.0)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            # The name is stored with its length only in newer protocols; here it ends at the line.
            new.writestr(entry.filename, old.read(entry).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_foreign(path)["best"] == 2.0


@pytest.mark.parametrize("zipped", [True, False], ids=["new format", "old format"])
def test_other_objects_are_refused_by_name_unread_and_taken_on_trust(tmp_path, zipped):
    path = tmp_path / "a.pth"
    torch.save({"model": {"w": torch.ones(2)}, "extra": Harmful()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"test_foreign_file\.touch.*may run code.*--trust"):
        read_foreign(path)
    assert TOUCHED == []
    assert torch.equal(read_foreign(path, trust=True)["model"]["w"], torch.ones(2))
    assert TOUCHED == [1]
    TOUCHED.clear()


def test_a_whole_module_gives_its_state_on_trust(tmp_path):
    path = tmp_path / "module.pth"
    torch.save(nn.Linear(2, 3), path)
    ((entry, state),) = state_dicts(read_foreign(path, trust=True))
    assert entry == ""
    assert list(state) == ["weight", "bias"]


def test_foreign_safetensors_are_read(tmp_path):
    path = tmp_path / "a.bin"  # what a file is, its content tells
    path.write_bytes(tensor_file_bytes({"w": torch.arange(3.0)}, "{}"))
    assert torch.equal(read_foreign(path)["w"], torch.arange(3.0))


def test_a_flipped_bit_is_told(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"w": torch.ones(1000)}, path)
    content = bytearray(path.read_bytes())
    content[content.find(torch.ones(8).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged: the checksum of its part .+ is wrong"):
        read_foreign(path)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, world: this is a text",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04 cut off",
        (90).to_bytes(8, "little") + b'{"w":' + bytes(200),
    ],
    ids=["empty", "text", "png", "zip", "safetensors"],
)
def test_no_weights_at_all_are_told_in_one_sentence(tmp_path, content, trust):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"file\.pth .*(cut off|give another)"):
        read_foreign(path, trust=trust)


def test_a_plain_pickle_is_told(tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps({"a": 1}, protocol=4))
    with pytest.raises(InputError, match=r"file\.pkl is not what torch\.save or safetensors write"):
        read_foreign(path)


def test_no_file_is_told():
    with pytest.raises(InputError, match="there is no file nowhere"):
        read_foreign(Path("nowhere"))
