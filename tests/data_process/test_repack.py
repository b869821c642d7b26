"""Repacked records are the same bytes in other shards."""

import pytest

from data_process.errors import InputError, RunError
from data_process.index import read_index
from data_process.repack import RepackConfig, repack
from data_process.shard_writer import list_shards
from data_process.shards import ShardSet
from data_process.verify import VerifyConfig, verify
from launch.cli import main
from tests.sample_videos import small_dataset


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("repack") / "data", videos=10, videos_per_shard=4)


def content(root):
    """Id to header facts and frames of every video."""
    shards = ShardSet(root)
    return {
        record.id: (record, shards.read_frames(index, range(record.num_frames)).units)
        for index, record in enumerate(shards)
    }


def test_other_shards_hold_the_same_records(root, tmp_path):
    summary = repack(root, tmp_path / "out", RepackConfig(videos_per_shard=3))
    assert (summary.shards_built, summary.complete, len(list_shards(tmp_path / "out"))) == (4, True, 4)
    assert content(tmp_path / "out") == content(root)
    assert ShardSet(tmp_path / "out").classes == ShardSet(root).classes
    assert verify(tmp_path / "out", VerifyConfig(level=4)) == []


def test_the_bytes_depend_on_the_content_alone(root, tmp_path):
    config = {"videos_per_shard": 3}
    repack(root, tmp_path / "one", RepackConfig(**config))
    once_more = repack(root, tmp_path / "one", RepackConfig(**config))
    assert (once_more.shards_built, once_more.shards_kept) == (0, 4)
    repack(root, tmp_path / "between", RepackConfig(videos_per_shard=5))
    for task in (1, 0):
        repack(root, tmp_path / "two", RepackConfig(**config, task=task, tasks=2))
    for path in list_shards(tmp_path / "one").values():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_videos_can_be_chosen_and_left_out(root, tmp_path):
    ids = [record.id for record in ShardSet(root, split="train")]
    repack(root, tmp_path / "a", RepackConfig(split="train", without=(ids[0],)))
    assert set(content(tmp_path / "a")) == set(ids[1:])
    repack(root, tmp_path / "b", RepackConfig(only=(ids[0], ids[2])))
    assert set(content(tmp_path / "b")) == {ids[0], ids[2]}
    assert ShardSet(tmp_path / "b").classes == ("a", "b"), "labels keep their meaning"


def test_what_cannot_be_done_is_refused(root, tmp_path):
    ids = tuple(read_index(root).ids)
    with pytest.raises(InputError, match="is the dataset itself"):
        repack(root, root, RepackConfig())
    with pytest.raises(InputError, match=r"1 ids are not in .*: nobody"):
        repack(root, tmp_path / "x", RepackConfig(only=("nobody",)))
    with pytest.raises(InputError, match=r"no video of .* is left"):
        repack(root, tmp_path / "x", RepackConfig(without=ids))
    for wrong in ({"task": 2, "tasks": 2}, {"videos_per_shard": 0}):
        with pytest.raises(InputError):
            RepackConfig(**wrong)
    repack(root, tmp_path / "out", RepackConfig())
    with pytest.raises(InputError, match="belongs to a build with another plan"):
        repack(root, tmp_path / "out", RepackConfig(without=ids[:1]))


def test_damage_is_not_copied(tmp_path):
    root = small_dataset(tmp_path / "data", videos=3)
    row = read_index(root).rows[1]
    path = list_shards(root)[0]
    damaged = bytearray(path.read_bytes())
    damaged[int(row["offset"]) + int(row["length"]) - 50] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(RunError, match="the checksum of frame"):
        repack(root, tmp_path / "out", RepackConfig())
    assert not list(tmp_path.glob("out/*.lmdb*"))


def test_the_command_repacks_without_the_ids_of_a_file(root, tmp_path, capsys):
    first = next(iter(ShardSet(root))).id
    (tmp_path / "bad.txt").write_text(f"{first}\n")
    assert main(["repack", str(root), str(tmp_path / "out"), "--without", str(tmp_path / "bad.txt")]) == 0
    assert "9 ok; indexed" in capsys.readouterr().out
    assert first not in content(tmp_path / "out")
