from pathlib import Path

import pytest

from data_process.datasets.list import read
from data_process.errors import InputError
from data_process.source import SourceRequest, read_source

ANNOTATIONS = Path(__file__).resolve().parents[4] / "shared" / "data" / "annotations"


def write(root, text, name="list.txt", videos=()):
    for video in videos:
        (root / video).parent.mkdir(parents=True, exist_ok=True)
        (root / video).touch()
    (root / name).write_bytes(text.encode())
    return root / name


def rows(path, split="train"):
    return [(video.id, video.class_name, video.split) for video in read(SourceRequest(path, split)).videos]


def test_lines_are_path_and_label(tmp_path):
    path = write(tmp_path, "run/x.mp4 run\n\njump/y.avi jump\n")
    assert rows(path, split="val") == [("run/x", "run", "val"), ("jump/y", "jump", "val")]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_cut_from_the_right_whatever_ends_and_parts_them(tmp_path, end):
    path = write(tmp_path, end.join(["val/air drumming/x y.mp4  3", "a\t4", "[b] (c) & ' ;.mp4 5", ""]))
    assert rows(path) == [("val/air drumming/x y", "3", "train"), ("a", "4", "train"), ("[b] (c) & ' ;", "5", "train")]


def test_a_line_that_is_a_file_has_no_label(tmp_path):
    assert rows(write(tmp_path, "a b.mp4\nc.mp4\n", videos=["a b.mp4"])) == [
        ("a b", None, "train"),
        ("c", None, "train"),
    ]


def test_csv_rows_are_path_label_and_split(tmp_path):
    text = '\ufeffpath,label,split\r\n"a, b.mp4",air drumming,test\r\nc.mp4,run\r\nd.mp4\r\n\r\n'
    path = write(tmp_path, text, name="list.CSV")
    assert rows(path) == [("a, b", "air drumming", "test"), ("c", "run", "train"), ("d", None, "train")]


@pytest.mark.parametrize(
    ("text", "named"),
    [("a.mp4,run,validation\n", "line 1: split 'validation'; expected one of train, val, test"),
     ("a.mp4,run\nb.mp4,c,train,4\n", "line 2: .*is not `path,label"), (",run\n", "line 1")],
)  # fmt: skip
def test_rows_that_cannot_be_understood_are_named(tmp_path, text, named):
    with pytest.raises(InputError, match=named):
        rows(write(tmp_path, text, name="list.csv"))


def test_a_list_in_another_encoding_is_wrong_input(tmp_path):
    (tmp_path / "list.txt").write_bytes("façade.mp4 0".encode("latin-1"))
    with pytest.raises(InputError, match="expected text in UTF-8"):
        rows(tmp_path / "list.txt")


def test_paths_are_relative_to_the_list(tmp_path, monkeypatch):
    path = write(tmp_path, "run/x.mp4 run\n", videos=["run/x.mp4"])
    monkeypatch.chdir("/")
    assert read_source("list", SourceRequest(path)).videos[0].path == tmp_path / "run/x.mp4"


def test_missing_files_are_counted_and_the_first_ten_named(tmp_path):
    text = "".join(f"{number:02d}.mp4 0\n" for number in range(13))
    with pytest.raises(InputError, match=r"12 of 13 listed files do not exist: .*00.mp4.*10.mp4 and 2 more") as caught:
        read_source("list", SourceRequest(write(tmp_path, text, videos=["05.mp4"])))
    assert "11.mp4" not in str(caught.value)


def test_ids_given_twice_are_counted_and_the_first_ten_named(tmp_path):
    names = [f"{number:02d}" for number in range(12)]
    text = "".join(f"{name}.mp4 0\n{name}.avi 0\n" for name in names)
    videos = [f"{name}.{ending}" for name in names for ending in ("mp4", "avi")]
    with pytest.raises(InputError, match=r"12 ids stand for more than one file: 00 .*09 .* and 2 more; rename"):
        read_source("list", SourceRequest(write(tmp_path, text, videos=videos)))


def test_a_folder_is_no_list(tmp_path):
    with pytest.raises(InputError, match="--dataset folder"):
        read_source("list", SourceRequest(tmp_path))


def test_an_unknown_adapter_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"known are coclr, cstp, folder, hmdb51, kinetics, list"):
        read_source("kinetix", SourceRequest(tmp_path))


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason="the annotation samples are not beside this repository")
@pytest.mark.parametrize(
    ("name", "first", "labels"),
    [
        ("cstp/UCF101_labels_trainlist01.head.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01", "number"),
        ("cstp/HMDB51_labels_trainlist01.head.txt", "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0", "number"),
        ("cstp/kin400_mmlab_labels_val_list_label.head.txt", "val/abseiling/0wR5jVB-WPk", "number"),
        ("ucf101_official/trainlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01", "number"),
        ("ucf101_official/testlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01", "none"),
        ("mmaction2/video_test_list.txt", None, "number"),
    ],
)
def test_lists_of_other_projects_are_read(name, first, labels):
    found = rows(ANNOTATIONS / name)
    lines = [line for line in (ANNOTATIONS / name).read_text().split("\n") if line.strip()]
    assert len(found) == len(lines)
    assert first is None or found[0][0] == first
    for (video_id, label, _), line in zip(found, lines, strict=True):
        assert line.strip().startswith(video_id)
        assert label.isdecimal() if labels == "number" else label is None
