import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_process import id_table
from data_process.errors import InputError
from data_process.id_table import IdTable
from data_process.index import ROW, read_index, write_index
from data_process.shard_writer import ShardWriter
from tests.sample_videos import small_dataset


def test_a_row_has_the_40_bytes_that_are_written_down():
    assert ROW.itemsize == 40
    assert {name: ROW.fields[name][1] for name in ROW.names} == {
        "offset": 0, "length": 8, "shard": 16, "frames": 20, "label": 24, "fps_x100": 28,
        "width": 30, "height": 32, "split": 34, "flags": 35, "position": 36,
    }  # fmt: skip


def test_rows_stand_in_the_order_of_split_shard_and_position(tmp_path):
    index = read_index(small_dataset(tmp_path / "data", videos=11))
    order = [tuple(row) for row in index.rows[["split", "shard", "position"]].tolist()]
    assert order == sorted(order)
    assert index.splits == {"train": (0, 8), "test": (8, 11)}
    assert index.ids[0] == "a/video 0"
    assert (int(index.rows["fps_x100"][0]), int(index.rows["frames"][0])) == (2997, 20)


@given(ids=st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=12), unique=True, max_size=40))
def test_every_id_is_found_and_no_other(ids):
    table = IdTable(np.frombuffer(IdTable.pack(ids), dtype=np.uint8))
    assert [table[row] for row in range(len(table))] == ids
    assert [table.find(one) for one in ids] == list(range(len(ids)))
    assert table.find("no such id, for it is too long") == -1
    assert table.blob(0, len(ids)) == "".join(ids).encode()


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_any_range_of_ids_is_walked_in_order(chunk, monkeypatch):
    monkeypatch.setattr(id_table, "_CHUNK", chunk)
    ids = ["é", "", "videó/1", "a b", "日本", "z", "0"]
    table = IdTable(np.frombuffer(IdTable.pack(ids), dtype=np.uint8))
    assert list(table) == ids
    assert all(list(table.between(first, end)) == ids[first:end] for first in range(8) for end in range(first, 8))


def test_writing_the_index_again_changes_no_byte(tmp_path):
    root = small_dataset(tmp_path / "data")
    names = ("index.json", "index.npy", "ids.bin")
    before = [(root / name).read_bytes() for name in names]
    write_index(root, classes=("a", "b"))
    assert [(root / name).read_bytes() for name in names] == before


def test_class_names_come_from_the_plan_unless_given(tmp_path):
    root = small_dataset(tmp_path / "data")
    (root / "plan.json").write_text(json.dumps({"classes": ["run", "jump"]}))
    assert write_index(root).classes == ("run", "jump")


def test_a_dataset_without_any_stored_video_can_be_indexed(tmp_path):
    with ShardWriter(tmp_path, 0):
        pass
    index = write_index(tmp_path)
    assert (len(index.rows), index.splits, index.ids.find("x")) == (0, {}, -1)


def test_ids_in_two_shards_are_refused(tmp_path):
    root = small_dataset(tmp_path / "data", videos=4)
    (root / "shard-000009.lmdb").write_bytes((root / "shard-000000.lmdb").read_bytes())
    with pytest.raises(InputError, match=r"4 ids stand in more than one record \(a/video 0"):
        write_index(root, classes=("a", "b"))


def test_labels_without_a_class_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="label 1 is stored, but only 1 class names"):
        small_dataset(tmp_path / "data", classes=("a", "b")) and write_index(tmp_path / "data", classes=("a",))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda root: (root / "index.json").unlink(), "index.json is missing.*`intravid index"),
        (lambda root: (root / "ids.bin").unlink(), "cannot be read.*`intravid index"),
        (lambda root: (root / "ids.bin").write_bytes(b"IVID"), "cannot be read.*not a complete table"),
        (lambda root: (root / "index.npy").write_bytes(b"\x93NUMPY"), "cannot be read"),
        (lambda root: (root / "index.json").write_text("{"), "cannot be read"),
        (lambda root: (root / "index.json").write_text("{}"), "cannot be read"),
        (lambda root: np.save(root / "index.npy", np.zeros(3, ROW)), "another format or incomplete"),
        (lambda root: [path.unlink() for path in root.iterdir()], "holds no shards.*`intravid build"),
    ],
)
def test_a_missing_or_broken_index_says_what_mends_it(tmp_path, damage, named):
    root = small_dataset(tmp_path / "data")
    damage(root)
    with pytest.raises(InputError, match=named):
        read_index(root)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        read_index(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no shards"):
        write_index(tmp_path / "nowhere")


def test_a_damaged_shard_is_named_when_indexing(tmp_path):
    root = small_dataset(tmp_path / "data")
    path = root / "shard-000001.lmdb"
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"shard-000001.lmdb: .*cut short.*rebuilds only this shard"):
        write_index(root)
