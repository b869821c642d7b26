"""Databases of CoCLR and CSTP become shards with the very same frames."""

import hashlib
import json
from pathlib import Path

import lmdb
import msgpack
import pytest

from data_process.errors import InputError, RunError
from data_process.import_lmdb import ImportConfig, import_lmdb
from data_process.legacy_lmdb import LegacyDatabase
from data_process.quarantine import read_json_lines
from data_process.shards import ShardSet
from data_process.verify import VerifyConfig, verify
from launch.cli import main
from tests.sample_videos import jpegs

SAMPLES = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "legacy_lmdb"
VIDEOS = {
    "Archery/v_Archery_g01_c01": jpegs(0, frames=9),
    "ApplyEyeMakeup/v_é_1": jpegs(1, frames=24),
    "ApplyEyeMakeup/v_[2]": jpegs(2, frames=17),
    "Baby Crawling/v_3": jpegs(3, frames=12),
}


def packed(value, *, old):
    """As msgpack before 1.0 wrote it: one raw type for names, keys and pictures."""
    return msgpack.packb(value, use_bin_type=not old)


def write_legacy(path, videos=None, *, folder=False, old=False, order=True, lengths=None, skip=()):
    """The converters' own way: numbers by position in the shuffled order, special lists by class and name."""
    videos = VIDEOS if videos is None else videos
    env = lmdb.open(str(path), subdir=folder, map_size=1 << 24, lock=False)
    names = list(videos)
    numbers = {name: f"{number:09d}".encode() for number, name in enumerate(names)}
    by_class = sorted(names)
    with env.begin(write=True) as txn:
        for name, frames in videos.items():
            if name not in skip:
                txn.put(numbers[name], packed(frames, old=old))
        txn.put(b"__keys__", packed([numbers[name] for name in by_class], old=old))
        txn.put(b"__len__", packed(len(names), old=old))
        if order:
            txn.put(b"__order__", packed(names, old=old))
        counted = lengths or [len(videos[name]) for name in by_class]
        txn.put(b"__vlen__", packed(counted, old=old))
    env.close()
    return path


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
@pytest.mark.parametrize("old", [False, True], ids=["msgpack 1", "msgpack 0.6"])
def test_frames_are_stored_byte_by_byte_under_their_names(tmp_path, folder, old):
    source = write_legacy(tmp_path / "old.lmdb", folder=folder, old=old)
    out = tmp_path / "out"
    summary = import_lmdb(source, out, ImportConfig(videos_per_shard=3, fps=29.97, split="val"))
    assert (summary.shards_built, dict(summary.outcomes), summary.complete) == (2, {"ok": 4}, True)
    shards = ShardSet(out, split="val")
    assert shards.classes == ("ApplyEyeMakeup", "Archery", "Baby Crawling")
    for index, record in enumerate(shards):
        assert list(shards.read_frames(index, range(record.num_frames)).units) == VIDEOS[record.id]
        assert shards.classes[record.label] == record.id.split("/")[0]
        assert (record.height, record.width, record.fps) == (32, 40, pytest.approx(29.97))
    assert verify(out, VerifyConfig(level=4)) == []


def test_a_second_start_and_tasks_give_the_same_bytes(tmp_path):
    source = write_legacy(tmp_path / "old.lmdb")
    config = ImportConfig(videos_per_shard=1)
    import_lmdb(source, tmp_path / "one", config)
    assert import_lmdb(source, tmp_path / "one", config).shards_kept == 4
    for task in (1, 0):
        import_lmdb(source, tmp_path / "two", ImportConfig(videos_per_shard=1, task=task, tasks=2))
    for path in (tmp_path / "one").glob("*.lmdb"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    with pytest.raises(InputError, match="belongs to a build with another plan"):
        import_lmdb(source, tmp_path / "one", ImportConfig(videos_per_shard=1, fps=30.0))


def test_what_cannot_be_stored_is_left_out_with_its_reason(tmp_path):
    videos = {
        **VIDEOS,
        "a/none": [],
        "a/sizes": [jpegs(0)[0], jpegs(0, height=48)[0]],
        "a/broken": [b"no picture"],
        "a/gone": jpegs(5),
    }
    source = write_legacy(tmp_path / "old.lmdb", videos, skip=["a/gone"])
    with pytest.raises(RunError, match="4 of 8 videos were left out"):
        import_lmdb(source, tmp_path / "out", ImportConfig())
    rows = read_json_lines(tmp_path / "out" / "quarantine.jsonl")
    assert {row["id"]: row["code"] for row in rows} == {
        "a/none": "zero_frames", "a/sizes": "mixed_sizes", "a/broken": "unreadable", "a/gone": "unreadable",
    }  # fmt: skip
    assert {record.id for record in ShardSet(tmp_path / "out")} == set(VIDEOS)


def test_counts_are_those_of_the_keys_and_not_of_the_names(tmp_path):
    """Read in the order of the names, the counts of nearly all videos would be wrong."""
    source = write_legacy(tmp_path / "old.lmdb")
    listed = {one.name: one.listed_frames for one in LegacyDatabase(source).videos()}
    assert listed == {name: len(frames) for name, frames in VIDEOS.items()}
    assert dict(import_lmdb(source, tmp_path / "out", ImportConfig()).outcomes) == {"ok": 4}


def test_a_count_that_is_wrong_is_told_and_the_frames_are_kept(tmp_path):
    source = write_legacy(tmp_path / "old.lmdb", lengths=[17, 24, 9, 99])
    summary = import_lmdb(source, tmp_path / "out", ImportConfig())
    assert dict(summary.outcomes) == {"ok": 3, "degraded": 1}
    (row,) = read_json_lines(tmp_path / "out" / "quarantine.jsonl")
    assert row["detail"] == "__vlen__ tells 99 frames, the entry holds 12"


def test_names_may_stand_in_the_file_beside(tmp_path):
    source = write_legacy(tmp_path / "old.lmdb", order=False)
    with pytest.raises(InputError, match="holds no __order__"):
        import_lmdb(source, tmp_path / "out", ImportConfig())
    Path(f"{source}-order").write_text("\n".join(VIDEOS))
    assert len(import_lmdb(source, tmp_path / "out", ImportConfig()).outcomes) == 1


def test_what_is_no_such_database_is_refused(tmp_path, capsys):
    (tmp_path / "text").write_text("no database")
    (tmp_path / "folder").mkdir()
    for name in ("text", "folder", "nowhere"):
        assert main(["import-lmdb", str(tmp_path / name), str(tmp_path / "out")]) == 2
    assert "is no LMDB database" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_imports_with_a_class_order(tmp_path, capsys):
    source = write_legacy(tmp_path / "old.lmdb")
    (tmp_path / "classes.txt").write_text("Baby Crawling\nArchery\nApplyEyeMakeup\n")
    words = ["import-lmdb", str(source), str(tmp_path / "out"), "--classes", str(tmp_path / "classes.txt")]
    assert main(words) == 0
    assert "4 ok; indexed" in capsys.readouterr().out
    assert ShardSet(tmp_path / "out").classes == ("Baby Crawling", "Archery", "ApplyEyeMakeup")


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample databases are not beside this repository")
@pytest.mark.parametrize("name", ["cstp_kin.lmdb", "coclr_frame.lmdb", "coclr_frame_msgpack06.lmdb"])
def test_databases_of_the_original_converters_are_read(tmp_path, name):
    told = json.loads((SAMPLES / "manifest.json").read_text())[name]["videos"]
    import_lmdb(SAMPLES / name, tmp_path / "out", ImportConfig())
    shards = ShardSet(tmp_path / "out")
    assert {record.id for record in shards} == set(told)
    for index, record in enumerate(shards):
        units = shards.read_frames(index, range(record.num_frames)).units
        facts = told[record.id]
        assert len(units) == facts["frames"]
        assert [record.width, record.height] == facts["size"]
        assert hashlib.sha256(b"".join(units)).hexdigest() == facts["sha256_all"]
        assert hashlib.sha256(units[0]).hexdigest() == facts["sha256_first"]
