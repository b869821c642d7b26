"""Lists of VTDL, CSTP, CoCLR, DualVar and mmaction2."""

from pathlib import Path

import pytest

from data_process.errors import InputError
from data_process.source import SourceRequest, keep_subset, read_source, unnumbered
from tests.data_process.datasets.trees import ANNOTATIONS, listing, missing, rows, touched

beside = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason="the annotation samples are not beside this repository")
CLASSES = ("brush_hair", "kick", "kick_ball")


@pytest.fixture
def videos(tmp_path):
    return touched(tmp_path / "v", "kick/a b.avi", "kick_ball/c.avi", "brush_hair/[d].avi")


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "list.txt").write_text(text)
    return tmp_path / "list.txt"


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        ("vtdl", "/x/hmdb51/a b 34 1\n/x/hmdb51/c 83 2\n/x/[d] 1 0\n/home/x/gone 5 1\n"),
        ("cstp", "kick/a b 1 34\nkick_ball/c 2 83\nbrush_hair/[d] 0 1\nkick/gone 1\n"),
        (
            "cstp",
            "val/kick/a b.mp4  1  34\nval/kick_ball/c.mp4  2\nval/brush_hair/[d].mp4  0  1\nval/kick/gone.mp4 1\n",
        ),
        ("coclr", "/x/frame/kick/a b/,34\nkick_ball/c,83\n/x/brush_hair/[d]/,0\nkick/gone/,3\n"),
        ("mmaction2", "kick/a b.mp4 1\nkick_ball/c.mp4 2\nbrush_hair/[d].mp4 0\nkick/gone.mp4 1\n"),
    ],
)
def test_each_form_gives_the_same_videos(tmp_path, videos, dataset, text):
    found = listing(dataset, videos, [("test", written(tmp_path, text))], classes=CLASSES)
    assert rows(found) == [
        ("brush_hair/[d]", "brush_hair", "test"), ("kick/a b", "kick", "test"), ("kick_ball/c", "kick_ball", "test"),
    ]  # fmt: skip
    assert missing(found) == ["kick/gone"]
    assert all("labels are other classes" not in warning for warning in found.warnings)
    assert any("1 rows have 0 frames" in warning for warning in found.warnings) == (dataset == "coclr")


def test_numbers_of_another_order_are_told_and_folders_count(tmp_path, videos):
    text = written(tmp_path, "kick/a b.avi 1\nkick_ball/c.avi 2\n")
    found = listing("mmaction2", videos, [text], classes=("brush_hair", "kick_ball", "kick"))
    assert rows(found) == [("kick/a b", "kick", "train"), ("kick_ball/c", "kick_ball", "train")]
    assert "2 labels are other classes than the folders" in found.warnings[0]


def test_numbers_alone_need_the_class_list(tmp_path):
    root = touched(tmp_path / "v", "a.avi")
    text = written(tmp_path, "a.avi 1\n")
    with pytest.raises(InputError, match="give the names as --classes"):
        listing("mmaction2", root, [text])
    assert rows(listing("mmaction2", root, [text], classes=CLASSES)) == [("kick/a", "kick", "train")]
    with pytest.raises(InputError, match="label 1, the class list has 1 names"):
        listing("mmaction2", root, [text], classes=("one",))


FLAT = "a.mp4 0\nb.mp4 1\nc.mp4 2\n"


@pytest.mark.parametrize("folder", ["videos", "val_256", "videos_train", "part_0"])
def test_a_folder_of_all_classes_is_no_class(tmp_path, folder):
    root = touched(tmp_path / "v", *(f"{folder}/{name}.mp4" for name in "abc"))
    text = written(tmp_path, FLAT)
    found = listing("mmaction2", root, [text], classes=CLASSES)
    assert rows(found) == [(f"{name}/{stem}", name, "train") for name, stem in zip(CLASSES, "abc", strict=True)]
    assert found.warnings == []
    with pytest.raises(InputError, match=r"no class folder|folders are not classes here"):
        listing("mmaction2", root, [text])


def test_one_number_in_two_folders_needs_the_class_list(tmp_path):
    root = touched(tmp_path / "v", "x/a.mp4", "y/b.mp4")
    with pytest.raises(InputError, match=r"label 0 is in x .* --classes"):
        listing("mmaction2", root, [written(tmp_path, "x/a.mp4 0\ny/b.mp4 0\n")])


@pytest.mark.parametrize("dataset", ["mmaction2", "coclr"])
def test_classes_are_spelled_as_in_the_class_list(tmp_path, dataset):
    root = touched(tmp_path / "v", "using_segway/a.mp4")
    text = {"mmaction2": "using_segway/a.mp4 1\n", "coclr": "/x/using_segway/a/,9\n"}[dataset]
    found = listing(dataset, root, [written(tmp_path, text)], classes=("abseiling", "using segway"))
    assert rows(found) == [("using segway/a", "using segway", "train")]


@pytest.mark.parametrize("listed", ["catch kick", "catch waves"])
@pytest.mark.parametrize(("dataset", "line"), [("coclr", "{}/001/,3\n"), ("mmaction2", "{}/001.avi 0\n")])
def test_a_video_of_another_class_never_stands_in_for_a_missing_one(tmp_path, dataset, line, listed):
    root = touched(tmp_path / "v", "kick/001.avi", "waves/002.avi", "waves/001.avi")
    names = listed.split()
    text = "".join(line.format(name).replace(" 0", f" {number}") for number, name in enumerate(names))
    found = listing(dataset, root, [written(tmp_path, text)], classes=tuple(names))
    assert rows(found) == [(f"{names[1]}/001", names[1], "train")]
    assert missing(found) == ["catch/001"]


def test_names_that_fit_several_files_equally_are_refused(tmp_path):
    root = touched(tmp_path / "v", "kick/001.avi", "catch/001.avi")
    with pytest.raises(InputError, match=r"001\.avi may be any of .*catch.001.*kick.001"):
        listing("mmaction2", root, [written(tmp_path, "001.avi 5\n")])
    found = listing("mmaction2", root, [written(tmp_path, "001.avi 1\n")], classes=("catch", "kick"))
    assert rows(found) == [("kick/001", "kick", "train")]


def test_the_listed_ending_decides_between_copies(tmp_path):
    root = touched(tmp_path / "v", "kick/a.avi", "kick/a.mp4")
    found = listing("mmaction2", root, [written(tmp_path, "kick/a.mp4 0\n")])
    assert [video.path.name for video in found.videos] == ["a.mp4"]


@pytest.mark.parametrize(
    ("dataset", "line"), [("vtdl", "/x/a 7 1\n"), ("cstp", "kick/a 7 1\n"), ("vtdl", "/x/a 7\t1\n")]
)
def test_files_tell_a_number_of_a_name_from_a_column(tmp_path, dataset, line):
    text, classes = written(tmp_path, line), ("brush_hair", "kick", *"cdefg", "kick_ball")
    short, long = (touched(tmp_path / name, f"{name}.avi") for name in ("a", "a 7"))
    number = {"vtdl": "kick", "cstp": "kick_ball"}[dataset]
    assert rows(listing(dataset, short, [text], classes=classes)) == [(f"{number}/a", number, "train")]
    assert rows(listing(dataset, long, [text], classes=classes)) == [("kick/a 7", "kick", "train")]
    with pytest.raises(InputError, match=r"a line of the list means .*a\.avi, or .*a 7\.avi"):
        listing(dataset, touched(tmp_path / "both", "a.avi", "a 7.avi"), [text], classes=classes)


def test_lines_that_repeat_others_count_once(tmp_path, videos):
    found = listing("mmaction2", videos, [written(tmp_path, "kick/a b.avi 1\n" * 3)])
    assert len(found.videos) == 1
    assert "2 lines repeat" in found.warnings[0]


@pytest.mark.parametrize(
    ("dataset", "line", "why"),
    [
        ("mmaction2", "imgs 5 127", "names a folder of frames"),
        ("mmaction2", "a.mp4 0 3", "has 2 labels"),
        ("mmaction2", "a.mp4", "is not `path label`"),
        ("vtdl", "a b c", "is not `path frames class`"),
        ("cstp", "alone", "is not `class/name label"),
        ("coclr", "a,b,c", "is not `.../class/video/,frames`"),
    ],
)
def test_lines_of_another_form_are_named(tmp_path, videos, dataset, line, why):
    with pytest.raises(InputError, match=f"line 1.*{why}"):
        listing(dataset, videos, [written(tmp_path, f"{line}\n")])


def test_lists_that_are_not_given_are_asked_for(tmp_path, videos):
    with pytest.raises(InputError, match="--annotations"):
        listing("cstp", videos)
    with pytest.raises(InputError, match="does not exist; expected VTDL's list"):
        listing("vtdl", videos, [tmp_path / "nowhere"])


def test_a_subset_keeps_its_ids_and_names_unknown_ones(videos):
    found = read_source("folder", SourceRequest(videos))
    assert [video.id for video in keep_subset(found, ["kick/a b"]).videos] == ["kick/a b"]
    with pytest.raises(InputError, match="1 ids of the subset are not in the source: kick/z"):
        keep_subset(found, ["kick/a b", "kick/z"])


def test_a_subset_of_missing_videos_alone_is_refused(tmp_path, videos):
    found = listing("coclr", videos, [written(tmp_path, "kick/a b/,3\nkick/gone/,3\n")])
    with pytest.raises(InputError, match="none of the 1 ids of the subset is a video that is there"):
        keep_subset(found, ["kick/gone"])
    assert missing(keep_subset(found, ["kick/gone", "kick/a b"])) == ["kick/gone"]


def test_numbers_before_class_names_are_dropped_where_all_lines_have_them():
    assert unnumbered(["1 brush_hair", "2 kick ball"]) == ("brush_hair", "kick ball")
    assert unnumbered(["0 brush_hair", "1 kick"]) == ("brush_hair", "kick")
    assert unnumbered(["1 brush_hair", "kick"]) == ("1 brush_hair", "kick")
    assert unnumbered(["3 point shot", "3 legged race"]) == ("3 point shot", "3 legged race")


@beside
def test_all_circulating_class_lists_give_plain_names():
    for name in ("ucf101_official/classInd.txt", "vtdl/ucf101_classInd.txt", "coclr/ucf101_ClassInd.txt",
                 "mmaction2/label_map_ucf101.txt"):  # fmt: skip
        names = unnumbered([line.strip() for line in (ANNOTATIONS / name).read_text().split("\n") if line.strip()])
        assert len(names) == 101
        assert names[0] == "ApplyEyeMakeup"


@beside
def test_frame_folder_and_multi_label_samples_of_mmaction2_are_refused(tmp_path):
    root = touched(tmp_path / "v", "test.mp4")
    for form in ("", "_multi_label", "_with_offset"):
        path = ANNOTATIONS / "mmaction2" / f"rawframe_test_list{form}.txt"
        with pytest.raises(InputError, match=r"line 1: .* names a folder of frames"):
            listing("mmaction2", root, [path])
    with pytest.raises(InputError, match=r"line 1: .* has 2 labels"):
        listing("mmaction2", root, [ANNOTATIONS / "mmaction2" / "video_test_list_multi_label.txt"])


@beside
@pytest.mark.parametrize(
    ("dataset", "name", "classes"),
    [
        ("vtdl", "vtdl/ucf101_rgb_train_split_1.head.txt", "mmaction2/label_map_ucf101.txt"),
        ("vtdl", "vtdl/hmdb51_rgb_train_split_1.head.txt", "hmdb51_official/class_list.txt"),
        ("vtdl", "vtdl/ssd_kinetics_video_vallist.head.txt", "mmaction2/label_map_k400.txt"),
        ("cstp", "cstp/HMDB51_labels_trainlist01_nframe.head.txt", None),
        ("cstp", "cstp/kin400_mmlab_labels_val_list_label_nframe.head.txt", None),
        ("cstp", "cstp/kin400_mmlab_labels_val_list.head.txt", None),
        ("coclr", "coclr/hmdb51_train_split01.head.csv", None),
        ("coclr", "coclr/ucf101_test_split01.head.csv", None),
        ("coclr", "dualvar/hmdb51_train_split01.head.csv", None),
    ],
)
def test_the_lists_of_the_releases_are_read(tmp_path, dataset, name, classes):
    path = ANNOTATIONS / name
    lines = [line for line in path.read_text().split("\n") if line.strip()]
    order = tuple((ANNOTATIONS / classes).read_text().split("\n")) if classes else None
    root = touched(tmp_path / "v", "x.mp4")
    with pytest.raises(InputError, match=f"none of the {len(lines)} listed videos"):
        listing(dataset, root, [path], classes=order)
