"""The commands around shards as a user meets them: what they print and their exit status."""

import re
import sys

import pytest

from data_process.shards import ShardSet
from launch.cli import main
from tests.full_disk import small_disk
from tests.sample_videos import small_dataset, write_video


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for number in range(4):
        write_video(root / "ab"[number % 2] / f"{number}.mp4", seed=number, frames=20)
    return root


def error_of(capsys, *words):
    """Exit status and the error text of a command; the text must be one paragraph."""
    status = main([str(word) for word in words])
    text = capsys.readouterr().err.strip().split("\n")[-1]
    assert text.startswith("intravid: error: ")
    return status, text


def test_a_build_says_what_it_stored(source, tmp_path, capsys):
    assert main(["build", str(source), str(tmp_path / "out"), "--short-side", "48", "--jobs", "2"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"out: 1 shards written, 0 kept; 4 ok \(stored, but .*4 small\); indexed", printed.out)
    assert re.search(r"shard-000000.lmdb: 4 of 4 videos, 0\.\d MB, \d+\.\d s", printed.err)
    assert re.search(r"build: 4/4 videos, [\d.]+ videos/s", printed.err)
    assert main(["index", str(tmp_path / "out")]) == 0
    assert "4 videos in 1 shards, splits train" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "out"), "--level", "3"]) == 0
    assert "no damage found (level 3" in capsys.readouterr().out


def test_flow_is_built_as_asked(source, tmp_path, capsys):
    pytest.importorskip("cv2", reason="OpenCV (the extra `flow`) is not installed")
    words = ["--modality", "flow", "--flow", "farneback", "--bound", "8", "--short-side", "48"]
    assert main(["build", str(source), str(tmp_path / "out"), *words]) == 0
    assert "4 ok" in capsys.readouterr().out
    header = ShardSet(tmp_path / "out").header(0)
    assert (header.codec, header.num_frames, dict(header.extra)) == (
        "flow-jpeg",
        19,
        {"alg": "farneback", "bound": 8.0},
    )


def test_flow_without_opencv_stops_before_anything_is_written(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    status, text = error_of(capsys, "build", source, tmp_path / "out", "--modality", "flow")
    assert status == 2
    assert "pip install 'intravid[flow]'" in text
    assert not (tmp_path / "out").exists()


def test_a_list_with_classes_and_splits_is_built(source, tmp_path, capsys):
    (source / "list.csv").write_text("a/0.mp4,a,train\nb/1.mp4,b,test\n")
    (tmp_path / "classes.txt").write_text("b\r\na\r\n")
    words = ["--dataset", "list", "--classes", str(tmp_path / "classes.txt"), "--short-side", "48"]
    assert main(["build", str(source / "list.csv"), str(tmp_path / "out"), *words]) == 0
    from data_process.shards import ShardSet

    assert [(record.id, record.label, record.split) for record in ShardSet(tmp_path / "out")] == [
        ("a/0", 1, "train"),
        ("b/1", 0, "test"),
    ]
    capsys.readouterr()


def missing_folder(source, root):
    return "nowhere does not exist", [root / "nowhere", root / "out"]


def empty_folder(source, root):
    (root / "empty").mkdir()
    return "holds no videos", [root / "empty", root / "out"]


def unknown_class(source, root):
    (root / "classes.txt").write_text("a\n")
    return "1 classes are not in the class list", [source, root / "out", "--classes", root / "classes.txt"]


def missing_class_list(source, root):
    return "classes.txt does not exist", [source, root / "out", "--classes", root / "classes.txt"]


def duplicate_id(source, root):
    (source / "twice.txt").write_text("a/0.mp4 a\na/0.mp4 b\n")
    return "1 videos are listed more than once, maybe with other splits or classes: a/0", [
        source / "twice.txt",
        root / "out",
        "--dataset",
        "list",
    ]


def unknown_adapter(source, root):
    return "known are coclr, cstp, folder", [source, root / "out", "--dataset", "ucf"]


def wrong_setting(source, root):
    return "quality 99", [source, root / "out", "--quality", "99"]


def foreign_shard(source, root):
    (root / "out").mkdir()
    (root / "out" / "shard-000000.lmdb").write_bytes(b"anything")
    return "another dataset without plan.json", [source, root / "out"]


def codec_of_flow(source, root):
    return "leave it out", [source, root / "out", "--modality", "flow", "--codec", "mp4"]


def flow_of_frames(source, root):
    words = [source, root / "out", "--flow", "farneback", "--bound", "8"]
    return "--flow farneback --bound 8.0 is about optical flow, but frames are built; add --modality flow", words


def wrong_algorithm(source, root):
    return "flow magic: expected one of dis", [source, root / "out", "--modality", "flow", "--flow", "magic"]


@pytest.mark.parametrize(
    "case",
    [missing_folder, empty_folder, unknown_class, missing_class_list, duplicate_id, unknown_adapter, wrong_setting,
     foreign_shard, codec_of_flow, flow_of_frames, wrong_algorithm],
)  # fmt: skip
def test_wrong_input_is_one_paragraph_and_status_2_before_anything_is_written(source, tmp_path, capsys, case):
    named, words = case(source, tmp_path)
    before = sorted(path.name for path in tmp_path.glob("out/*"))
    status, text = error_of(capsys, "build", *words)
    assert status == 2
    assert named in text
    assert sorted(path.name for path in tmp_path.glob("out/*")) == before


def test_too_many_bad_videos_are_a_failed_run(source, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.mp4").write_bytes(b"no video")
    status, text = error_of(capsys, "build", tmp_path / "in", tmp_path / "out")
    assert status == 1
    assert "1 of 1 videos were left out" in text


def test_a_full_disk_is_a_failed_run(source, tmp_path, capsys):
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "filler").write_bytes(bytes(900_000))
        status, text = error_of(capsys, "build", source, disk / "out")
        assert status == 1
        assert "the disk is full" in text
        assert not list((disk / "out").glob("shard-*"))


def test_damage_is_listed_with_status_1(tmp_path, capsys):
    root = small_dataset(tmp_path / "data")
    (root / "shard-000001.lmdb").write_bytes(b"")
    assert main(["verify", str(root)]) == 1
    printed = capsys.readouterr().out
    assert "shard-000001.lmdb: has 0 bytes" in printed
    assert "1 problems; --move-damaged" in printed


@pytest.mark.parametrize("command", ["index", "verify"])
def test_a_folder_without_shards_is_wrong_input(tmp_path, capsys, command):
    status, text = error_of(capsys, command, tmp_path)
    assert status == 2
    assert "no shards" in text
    assert "intravid build" in text


@pytest.mark.parametrize("command", ["build", "index", "verify"])
def test_help_shows_an_example(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"intravid {command} " in capsys.readouterr().out.split("example:")[1]


def test_listed_videos_that_are_missing_are_counted_and_written_down(tmp_path, capsys):
    write_video(tmp_path / "videos" / "run" / "0wR5jVB-WPk.mp4")
    (tmp_path / "k.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nrun,0wR5jVB-WPk,1,2,train\nrun,gone4567890,3,4,val\n"
    )
    words = ["build", str(tmp_path / "videos"), str(tmp_path / "out"), "--dataset", "kinetics"]
    assert main([*words, "--annotations", str(tmp_path / "k.csv")]) == 0
    assert "1 listed videos are missing (missing.jsonl)" in capsys.readouterr().out
    (line,) = (tmp_path / "out" / "missing.jsonl").read_text().splitlines()
    assert '"gone4567890_000003_000004"' in line


def test_numbers_of_a_class_list_are_not_stored(tmp_path, capsys):
    write_video(tmp_path / "videos" / "flat" / "a.mp4")
    (tmp_path / "list.txt").write_text("/x/a 30 1\n")
    (tmp_path / "classInd.txt").write_bytes(b"1 brush_hair\r\n2 kick ball\r\n")
    words = ["build", str(tmp_path / "videos"), str(tmp_path / "out"), "--dataset", "vtdl", "--short-side", "48"]
    words += ["--annotations", str(tmp_path / "list.txt"), "--classes", str(tmp_path / "classInd.txt")]
    assert main(words) == 0
    shards = ShardSet(tmp_path / "out")
    assert [(record.id, record.label) for record in shards] == [("kick ball/a", 1)]
    assert list(shards.classes) == ["brush_hair", "kick ball"]
    capsys.readouterr()


def test_a_subset_and_a_split_of_annotations_are_taken(tmp_path, capsys):
    for name in ("a", "b", "c"):
        write_video(tmp_path / "videos" / "run" / f"{name}.mp4")
    (tmp_path / "list.txt").write_text("run/a.mp4 0\nrun/b.mp4 0\nrun/c.mp4 0\n")
    (tmp_path / "ids.txt").write_text("run/a\nrun/c\n")
    words = ["build", str(tmp_path / "videos"), str(tmp_path / "out"), "--dataset", "mmaction2"]
    words += ["--annotations", f"test={tmp_path / 'list.txt'}"]
    assert main([*words, "--subset", str(tmp_path / "ids.txt")]) == 0
    assert "2 ok" in capsys.readouterr().out
    assert {record.id for record in ShardSet(tmp_path / "out", split="test")} == {"run/a", "run/c"}
