"""UCF101 and HMDB51 by their official lists."""

import pytest

from data_process.errors import InputError
from tests.data_process.datasets.trees import ANNOTATIONS, listing, missing, rows, touched

beside = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason="the annotation samples are not beside this repository")


def ucf_lists(folder):
    folder.mkdir()
    (folder / "trainlist01.txt").write_bytes(
        b"HandstandPushups/v_HandStandPushups_g08_c01.avi 1\r\nDiving/v_Diving_g09_c01.avi 2\r\n"
    )
    (folder / "testlist01.txt").write_bytes(b"Diving/v_Diving_g01_c01.avi\r\nDiving/v_Diving_g01_c02.avi\r\n")
    (folder / "classInd.txt").write_bytes(b"1 HandstandPushups\r\n2 Diving\r\n")
    return folder


@pytest.mark.parametrize("ending", ["avi", "mp4"])
def test_ucf101_takes_class_and_split_from_the_lists(tmp_path, ending):
    lists = ucf_lists(tmp_path / "lists")
    root = touched(
        tmp_path / "v",
        f"HandstandPushups/v_HandStandPushups_g08_c01.{ending}",
        f"Diving/v_Diving_g09_c01.{ending}",
        f"Diving/v_Diving_g01_c01.{ending}",
    )
    found = listing("ucf101", root, [lists])
    assert rows(found) == [
        ("Diving/v_Diving_g01_c01", "Diving", "test"),
        ("Diving/v_Diving_g09_c01", "Diving", "train"),
        ("HandstandPushups/v_HandStandPushups_g08_c01", "HandstandPushups", "train"),
    ]
    assert missing(found) == ["Diving/v_Diving_g01_c02"]
    assert found.classes == ("HandstandPushups", "Diving")
    assert found.warnings == [
        "UCF101: the train list has 2 videos, the official one 9537",
        "UCF101: the test list has 2 videos, the official one 3783",
    ]


def test_lists_are_found_where_the_archive_puts_them(tmp_path):
    ucf_lists(tmp_path / "ucfTrainTestlist")
    assert len(listing("ucf101", touched(tmp_path / "UCF-101", "Diving/v_Diving_g01_c01.avi")).videos) == 1


HMDB_NAMES = [
    "April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
    "(x) [y] & z!#+;~@_brush_hair_1.avi",
    "a name with blanks_brush_hair_2.avi",
    "not_used_brush_hair_3.avi",
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_hmdb51_reads_names_literally_and_leaves_the_unused_out(tmp_path, end):
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    lines = [f"{name} {use} " for name, use in zip(HMDB_NAMES, "1210", strict=True)]
    (lists / "brush_hair_test_split2.txt").write_bytes(end.join([*lines, ""]).encode())
    root = touched(tmp_path / "hmdb51", *(f"brush_hair/{name}" for name in HMDB_NAMES))
    found = listing("hmdb51", root, fold=2)
    assert [(one[1], one[2]) for one in rows(found)] == [("brush_hair", split) for split in ("test", "train", "train")]
    assert {video.path.name for video in found.videos} == set(HMDB_NAMES[:3])
    assert {video.id for video in found.videos} == {f"brush_hair/{name[:-4]}" for name in HMDB_NAMES[:3]}


@pytest.mark.parametrize("dataset", ["ucf101", "hmdb51"])
def test_folds_and_lists_that_are_not_there_are_told(tmp_path, dataset):
    root = touched(tmp_path / "v", "x.avi")
    with pytest.raises(InputError, match="has the folds 1, 2 and 3"):
        listing(dataset, root, fold=4)
    with pytest.raises(InputError, match="give the folder of the lists as --annotations"):
        listing(dataset, root)


@pytest.mark.parametrize("text", ["HandstandPushups\nDiving\n", "0 HandstandPushups\n1 Diving\n"])
def test_the_order_of_classes_is_that_of_the_class_file(tmp_path, text):
    lists = ucf_lists(tmp_path / "lists")
    (lists / "classInd.txt").write_text(text)
    found = listing("ucf101", touched(tmp_path / "v", "Diving/v_Diving_g01_c01.avi"), [lists])
    assert found.classes == ("HandstandPushups", "Diving")


def test_a_class_file_out_of_order_is_refused(tmp_path):
    lists = ucf_lists(tmp_path / "lists")
    (lists / "classInd.txt").write_text("2 Diving\n1 HandstandPushups\n")
    with pytest.raises(InputError, match=r"classInd\.txt is not `1 ApplyEyeMakeup`"):
        listing("ucf101", touched(tmp_path / "v", "Diving/v_Diving_g01_c01.avi"), [lists])


def test_a_line_of_another_form_is_named(tmp_path):
    (tmp_path / "run_test_split1.txt").write_text("a.avi 1\nb.avi 7\n")
    with pytest.raises(InputError, match=r"line 2: 'b\.avi 7' is not"):
        listing("hmdb51", touched(tmp_path / "v", "run/a.avi"), [tmp_path])


@beside
def test_the_official_lists_have_the_official_sizes(tmp_path):
    for dataset, class_of in (("ucf101", "ApplyEyeMakeup"), ("hmdb51", "brush_hair")):
        folder = ANNOTATIONS / f"{dataset}_official"
        name = {"ucf101": "v_ApplyEyeMakeup_g01_c01.avi"}.get(dataset)
        if name is None:
            name = (folder / "brush_hair_test_split1.txt").read_text().split(".avi")[0] + ".avi"
        found = listing(dataset, touched(tmp_path / dataset, f"{class_of}/{name}"), [folder])
        assert found.warnings == []
        assert len(found.videos) == 1
        total = {"ucf101": 9537 + 3783, "hmdb51": 3570 + 1530}[dataset]
        assert len(found.missing) == total - 1
        assert len({one["class"] for one in found.missing}) == {"ucf101": 101, "hmdb51": 51}[dataset]
