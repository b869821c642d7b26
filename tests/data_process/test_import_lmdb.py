"""Databases of CoCLR and CSTP become shards with the very same frames."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from data_process.errors import InputError, RunError
from data_process.import_lmdb import ImportConfig, import_lmdb
from data_process.legacy_lmdb import LegacyDatabase
from data_process.quarantine import read_json_lines
from data_process.shards import ShardSet
from data_process.verify import VerifyConfig, verify
from launch.cli import main
from tests.data_process.legacy_databases import VIDEOS, overwrite, packed, write_legacy
from tests.sample_videos import jpegs, small_dataset

SAMPLES = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "legacy_lmdb"


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


def test_a_sparse_file_as_large_as_its_map_is_read(tmp_path):
    source = write_legacy(tmp_path / "old.lmdb", sparse=True)
    assert source.stat().st_size == 1 << 36
    assert source.stat().st_blocks * 512 < 1 << 24
    assert dict(import_lmdb(source, tmp_path / "out", ImportConfig()).outcomes) == {"ok": 4}


def test_a_second_start_and_tasks_give_the_same_bytes(tmp_path):
    source = write_legacy(tmp_path / "old.lmdb")
    config = ImportConfig(videos_per_shard=1)
    import_lmdb(source, tmp_path / "one", config)
    assert import_lmdb(source, tmp_path / "one", config).shards_kept == 4
    (tmp_path / "one" / "shard-000002.lmdb").unlink()  # as if the first start had been stopped before it
    again = import_lmdb(source, tmp_path / "one", config)
    assert (again.shards_built, again.shards_kept, again.complete) == (1, 3, True)
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
        "a/frame cut": [*jpegs(6)[:3], jpegs(6)[3][:-1]],
    }
    source = write_legacy(tmp_path / "old.lmdb", videos, skip=["a/gone"])
    with pytest.raises(RunError, match="5 of 9 videos were left out"):
        import_lmdb(source, tmp_path / "out", ImportConfig())
    rows = read_json_lines(tmp_path / "out" / "quarantine.jsonl")
    assert {row["id"]: row["code"] for row in rows} == {
        "a/none": "zero_frames", "a/sizes": "mixed_sizes", "a/broken": "unreadable", "a/gone": "unreadable",
        "a/frame cut": "truncated",
    }  # fmt: skip
    assert {record.id for record in ShardSet(tmp_path / "out")} == set(VIDEOS)


@pytest.mark.parametrize("old", [False, True], ids=["msgpack 1", "msgpack 0.6"])
def test_a_value_that_is_cut_short_is_left_out_and_the_others_are_stored(tmp_path, old):
    source = write_legacy(tmp_path / "old.lmdb", old=old)
    overwrite(source, _1=packed(VIDEOS["ApplyEyeMakeup/v_é_1"], old=old)[:-500])
    summary = import_lmdb(source, tmp_path / "out", ImportConfig(max_bad=0.3))
    assert dict(summary.outcomes) == {"ok": 3, "truncated": 1}
    assert verify(tmp_path / "out", VerifyConfig(level=4)) == []


@pytest.mark.parametrize("missing", [4096, 60_000], ids=["the last page", "half of it"])
@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_a_database_that_was_cut_short_is_refused_and_kills_no_process(tmp_path, folder, missing):
    """Read through LMDB's memory map, the process would die by SIGBUS."""
    source = write_legacy(tmp_path / "old.lmdb", folder=folder)
    data = source / "data.mdb" if folder else source
    os.truncate(data, data.stat().st_size - missing)
    with pytest.raises(InputError, match="it is cut short"):
        import_lmdb(source, tmp_path / "out", ImportConfig())


def test_counts_are_those_of_the_keys_and_not_of_the_names(tmp_path):
    """Read in the order of the names, the counts of nearly all videos would be wrong."""
    source = write_legacy(tmp_path / "old.lmdb")
    with LegacyDatabase(source) as database:
        listed = {one.name: one.listed_frames for one in database.listing().videos}
    assert listed == {name: len(frames) for name, frames in VIDEOS.items()}
    assert dict(import_lmdb(source, tmp_path / "out", ImportConfig()).outcomes) == {"ok": 4}


def test_a_count_that_is_wrong_is_told_and_the_frames_are_kept(tmp_path):
    source = write_legacy(tmp_path / "old.lmdb", lengths=[17, 24, 9, 99])
    summary = import_lmdb(source, tmp_path / "out", ImportConfig())
    assert dict(summary.outcomes) == {"ok": 3, "degraded": 1}
    (row,) = read_json_lines(tmp_path / "out" / "quarantine.jsonl")
    assert row["detail"] == "__vlen__ tells 99 frames, the entry holds 12"


def test_counts_that_do_not_fit_the_keys_are_not_compared_and_this_is_told(tmp_path, capsys):
    for number, lengths in enumerate(([9, 9], ["x"] * 4)):
        source = write_legacy(tmp_path / f"{number}.lmdb", lengths=lengths)
        assert dict(import_lmdb(source, tmp_path / f"out {number}", ImportConfig()).outcomes) == {"ok": 4}
        assert "frame counts are not compared" in capsys.readouterr().err


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["Unix", "Windows"])
def test_names_may_stand_in_the_file_beside(tmp_path, end):
    videos = {**VIDEOS, "Archery/line\u2028separator": jpegs(6)}
    source = write_legacy(tmp_path / "old.lmdb", videos, order=False)
    Path(f"{source}-order").write_bytes("".join(name + end for name in videos).encode())
    assert dict(import_lmdb(source, tmp_path / "out", ImportConfig()).outcomes) == {"ok": 5}
    shards = ShardSet(tmp_path / "out")
    for index, record in enumerate(shards):
        assert list(shards.read_frames(index, range(record.num_frames)).units) == videos[record.id]


def test_without_names_videos_have_their_keys_and_no_classes_and_this_is_told(tmp_path, capsys):
    source = write_legacy(tmp_path / "old.lmdb", order=False)
    import_lmdb(source, tmp_path / "out", ImportConfig())
    assert "holds no __order__ (the videos' names), and" in capsys.readouterr().err
    shards = ShardSet(tmp_path / "out")
    assert {record.id: record.label for record in shards} == {f"{number:09d}": -1 for number in range(4)}
    for index, record in enumerate(shards):
        expected = list(VIDEOS.values())[int(record.id)]
        assert list(shards.read_frames(index, range(record.num_frames)).units) == expected


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (list(VIDEOS)[:3], r"__order__ names 3 videos, but 1 more are stored \(000000003\)"),
        (["a/b", "a/b", "a/c", "a/d"], "__order__ holds 1 names more than once: a/b"),
        ([1, 2, 3, 4], "__order__ is no list of names"),
        ("a/b", "__order__ is no list of names"),
        ([b"a/\xe9", "b", "c", "d"], "1 names of .* are not UTF-8"),
    ],
    ids=["too few", "twice", "numbers", "text", "latin 1"],
)
def test_names_that_would_lose_or_mix_up_videos_are_refused(tmp_path, names, told):
    source = overwrite(write_legacy(tmp_path / "old.lmdb"), __order__=packed(names, old=False))
    with pytest.raises(InputError, match=told):
        import_lmdb(source, tmp_path / "out", ImportConfig())
    assert not (tmp_path / "out").exists()


def test_a_list_of_names_that_is_damaged_is_refused(tmp_path):
    source = overwrite(write_legacy(tmp_path / "old.lmdb"), __order__=packed(list(VIDEOS), old=False)[:-3])
    with pytest.raises(InputError, match="__order__ cannot be read"):
        import_lmdb(source, tmp_path / "out", ImportConfig())


def test_what_is_no_such_database_is_refused(tmp_path, capsys):
    (tmp_path / "text").write_text("no database" * 1000)
    (tmp_path / "nothing").touch()
    (tmp_path / "folder").mkdir()
    overwrite(tmp_path / "empty", _0=None)
    overwrite(tmp_path / "other", image=b"x")
    overwrite(tmp_path / "no names", __order__=packed([], old=False))
    own = small_dataset(tmp_path / "own", videos=3) / "shard-000000.lmdb"
    for name, told in {
        "text": "the file is not an LMDB file",
        "nothing": "the file has 0 bytes",
        "folder": "is no LMDB database; expected a file (CoCLR) or a folder with data.mdb (CSTP)",
        "nowhere": "is no LMDB database",
        "empty": "holds no videos",
        "other": "holds no videos",
        "no names": "holds no videos",
        own: "is a shard of intravid, which needs no import",
    }.items():
        assert main(["import-lmdb", str(tmp_path / name), str(tmp_path / "out")]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fps", "nan"], "--fps nan"),
        (["--fps", "-1"], "--fps -1.0"),
        (["--max-bad", "2"], "--max-bad 2.0"),
        (["--task", "2", "--tasks", "2"], "the task must lie in 0..tasks-1"),
        (["--split", "trian"], "expected one of train, val, test"),
        (["--videos-per-shard", "0"], "at least one video"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_settings_that_cannot_be_are_refused(tmp_path, capsys, words, told):
    source = write_legacy(tmp_path / "old.lmdb")
    assert main(["import-lmdb", str(source), str(tmp_path / "out"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_refused(tmp_path, capsys):
    source = write_legacy(tmp_path / "old.lmdb")
    assert main(["import-lmdb", str(source), str(source)]) == 2
    assert "give another output folder" in capsys.readouterr().err


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
