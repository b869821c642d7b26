import os
import socket
import subprocess
import sys
import time

import lmdb
import msgpack
import pytest

from data_process import shard_writer
from data_process.durable import sweep_stale, write_durably
from data_process.errors import RunError
from data_process.lmdb_pages import PageFormatError, read_layout
from data_process.records import RecordHeader, describe_units, parse_header
from data_process.shard_writer import ShardWriter, list_shards, read_meta
from tests.full_disk import small_disk
from tests.sample_videos import jpegs, small_dataset


def add_video(writer, number, units=None):
    units = units or jpegs(number, frames=5)
    sizes, crcs = describe_units(units)
    writer.add(RecordHeader(f"id {number}", 0, "train", "jpeg", 40, 32, (25, 1), len(units), sizes, crcs), units)


def write_shard(root, videos, *, ending=None):
    """A shard of the given videos' frames; `ending` is raised before it is complete."""
    with ShardWriter(root, 0) as writer:
        for number, units in enumerate(videos):
            add_video(writer, number, units)
        if ending is not None:
            raise ending


def test_the_same_videos_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        small_dataset(tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "shard-000002.lmdb" in names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_environment_does_not_choose_another_file_format(tmp_path):
    code = "import sys; from tests.sample_videos import small_dataset; small_dataset(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "other")],
        env={**os.environ, "LMDB_DEFAULT_LIB_VERSION": "1"},
        check=True,
    )
    small_dataset(tmp_path / "own")
    first = "shard-000000.lmdb"
    assert (tmp_path / "other" / first).read_bytes() == (tmp_path / "own" / first).read_bytes()


def test_keys_are_positions_and_the_meta_record_comes_last(tmp_path):
    with ShardWriter(tmp_path, 7, settings_digest="abc", tool="ffmpeg 1") as writer:
        for number in range(3):
            add_video(writer, number)
    path = tmp_path / "shard-000007.lmdb"
    assert list(read_layout(path).values) == [b"000000000000", b"000000000001", b"000000000002", b"~meta"]
    expected = {"format": 1, "shard": 7, "records": 3, "settings": "abc", "tool": "ffmpeg 1"}
    assert read_meta(path) == expected
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env, env.begin() as txn:
        assert msgpack.unpackb(txn.get(b"~meta")) == expected
        assert parse_header(txn.get(b"000000000002")).id == "id 2"


def test_commits_in_between_do_not_lose_records(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_COMMIT_BYTES", 10_000)
    with ShardWriter(tmp_path, 0) as writer:
        for number in range(20):
            add_video(writer, number)
    assert len(read_layout(tmp_path / "shard-000000.lmdb").values) == 21


def test_a_shard_is_complete_or_absent(tmp_path):
    with pytest.raises(KeyError):
        write_shard(tmp_path, [jpegs(0, frames=5)], ending=KeyError())
    assert list(tmp_path.iterdir()) == []


def test_only_published_shards_are_listed(tmp_path):
    for name in ("shard-000001.lmdb", "shard-000000.lmdb", "shard-000002.lmdb.tmp.host.1", "shard-1.lmdb", "x.lmdb"):
        (tmp_path / name).touch()
    assert list(list_shards(tmp_path)) == [0, 1]


def test_a_file_of_another_program_has_no_meta(tmp_path):
    with lmdb.open(str(tmp_path / "x"), subdir=False, lock=False) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"value")
    with pytest.raises(PageFormatError, match="not a shard of this format"):
        read_meta(tmp_path / "x")


def test_files_of_dead_writers_are_swept_and_those_of_living_ones_kept(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = socket.gethostname()
    dead, alive = f"shard-000000.lmdb.tmp.{here}.{ended.pid}", f"shard-000001.lmdb.tmp.{here}.{os.getpid()}"
    old, young = "shard-000002.lmdb.tmp.elsewhere.1", "shard-000003.lmdb.tmp.elsewhere.1"
    for name in (dead, alive, old, young, "shard-000004.lmdb", "notes.tmp.txt"):
        (tmp_path / name).touch()
    two_days_ago = time.time() - 48 * 3600
    os.utime(tmp_path / old, (two_days_ago, two_days_ago))
    assert {path.name for path in sweep_stale(tmp_path)} == {dead, old}
    assert {path.name for path in tmp_path.iterdir()} == {alive, young, "shard-000004.lmdb", "notes.tmp.txt"}


@pytest.mark.parametrize("commit_bytes", [100_000, 64 << 20], ids=["while adding", "while publishing"])
def test_a_full_disk_is_named_and_leaves_nothing_behind(tmp_path, monkeypatch, commit_bytes):
    monkeypatch.setattr(shard_writer, "_COMMIT_BYTES", commit_bytes)
    with small_disk(tmp_path / "disk", 1) as disk:
        with pytest.raises(RunError, match=r"the disk is full: .*shard-000000.*run the same command"):
            write_shard(disk, [[bytes(50_000)]] * 40)
        assert list(disk.iterdir()) == []


def test_a_small_file_on_a_full_disk_leaves_the_old_one(tmp_path):
    with small_disk(tmp_path / "disk", 1) as disk:
        write_durably(disk / "index.json", b"old")
        with pytest.raises(RunError, match="the disk is full"):
            write_durably(disk / "index.json", bytes(2_000_000))
        assert [path.name for path in disk.iterdir()] == ["index.json"]
        assert (disk / "index.json").read_bytes() == b"old"


def test_other_disk_errors_are_not_called_a_full_disk(tmp_path):
    with pytest.raises(RunError, match=r"Input/output error.*See to the disk and run the same command") as failed:
        write_shard(tmp_path, [], ending=lmdb.Error("mdb_txn_commit: Input/output error"))
    assert "full" not in str(failed.value)
    assert not list(tmp_path.iterdir())
