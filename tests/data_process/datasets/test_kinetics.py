"""Kinetics in the layouts that downloaders leave."""

import pytest

from data_process.errors import InputError
from tests.data_process.datasets.trees import ANNOTATIONS, listing, missing, rows, touched

CSV = """label,youtube_id,time_start,time_end,split,is_cc
using segway,0wR5jVB-WPk,10,20,train,0
"massaging, feet",-_aBcD12345,7,17,train,0
abseiling,3caPS4FHFF8,36,46,val,0
abseiling,gone4567890,36,46,val,0
"""


@pytest.fixture
def annotations(tmp_path):
    (tmp_path / "k400.csv").write_bytes(b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
    return tmp_path / "k400.csv"


LAYOUTS = {
    "class folders and times": [
        "using segway/0wR5jVB-WPk_000010_000020.mp4",
        "massaging, feet/-_aBcD12345_000007_000017.mkv",
        "abseiling/3caPS4FHFF8_000036_000046.mp4",
    ],
    "splits, underscores, no times, endings": [
        "train_256/using_segway/0wR5jVB-WPk.mp4",
        "train_256/massaging,_feet/-_aBcD12345.mp4.webm",
        "val_256/abseiling/3caPS4FHFF8.webm",
    ],
    "flat": ["0wR5jVB-WPk.mp4", "-_aBcD12345.mp4", "3caPS4FHFF8_000036_000046.MP4"],
}


@pytest.mark.parametrize("names", LAYOUTS.values(), ids=LAYOUTS)
def test_clips_are_found_in_every_layout(tmp_path, annotations, names):
    found = listing("kinetics", touched(tmp_path / "videos", *names), [annotations])
    assert rows(found) == [
        ("-_aBcD12345_000007_000017", "massaging, feet", "train"),
        ("0wR5jVB-WPk_000010_000020", "using segway", "train"),
        ("3caPS4FHFF8_000036_000046", "abseiling", "val"),
    ]
    assert sorted(str(video.path.relative_to(tmp_path / "videos")) for video in found.videos) == sorted(names)
    assert missing(found) == ["gone4567890_000036_000046"]
    assert found.missing[0]["class"] == "abseiling"


def test_times_decide_between_clips_of_one_video(tmp_path):
    (tmp_path / "a.csv").write_text(
        "label,youtube_id,time_start,time_end,split\na,0wR5jVB-WPk,10,20,train\nb,0wR5jVB-WPk,30,40,val\n"
    )
    root = touched(tmp_path / "v", "x/0wR5jVB-WPk_000030_000040.mp4", "x/0wR5jVB-WPk_000010_000020.mp4")
    found = listing("kinetics", root, [tmp_path / "a.csv"])
    assert [(video.path.stem[-6:], video.class_name) for video in found.videos] == [("000020", "a"), ("000040", "b")]


def test_ids_that_differ_in_case_are_two_videos(tmp_path):
    (tmp_path / "a.csv").write_text("label,youtube_id,time_start,time_end,split\na,AAAAAAAAAAA,1,2,train\n")
    root = touched(tmp_path / "v", "aaaaaaaaaaa.mp4", "other.mp4")
    with pytest.raises(InputError, match="none of the 1 listed videos is below"):
        listing("kinetics", root, [tmp_path / "a.csv"])


def test_files_that_are_not_listed_are_told_and_left_out(tmp_path, annotations):
    found = listing("kinetics", touched(tmp_path / "v", "3caPS4FHFF8.mp4", "stranger.mp4"), [annotations])
    assert len(found.videos) == 1
    assert "1 files below" in found.warnings[0]


@pytest.mark.parametrize("folder", ["test_256", "part_0", "test/part_0"])
def test_a_folder_is_no_class_of_unlabelled_clips(tmp_path, folder):
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\n--6bJUbfpnQ,17,27,test\n")
    root = touched(tmp_path / "v", f"{folder}/--6bJUbfpnQ.mp4")
    assert rows(listing("kinetics", root, [tmp_path / "test.csv"])) == [("--6bJUbfpnQ_000017_000027", None, "test")]


def test_a_clip_is_found_by_its_id_in_the_folder_of_another_class(tmp_path, annotations):
    found = listing(
        "kinetics", touched(tmp_path / "v", "abseiling/0wR5jVB-WPk.mp4", "k600/3caPS4FHFF8.mp4"), [annotations]
    )
    assert {one[:2] for one in rows(found)} == {
        ("0wR5jVB-WPk_000010_000020", "using segway"),
        ("3caPS4FHFF8_000036_000046", "abseiling"),
    }


def test_clips_that_share_an_uncut_file_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("label,youtube_id,time_start,time_end,split\na,X,1,2,train\nb,X,5,6,train\n")
    found = listing("kinetics", touched(tmp_path / "v", "X.mp4"), [tmp_path / "a.csv"])
    assert "1 files are listed as more than one video" in found.warnings[0]


def test_rows_that_csv_and_json_both_hold_count_once(tmp_path):
    (tmp_path / "a.csv").write_text("label,youtube_id,time_start,time_end,split\na,A,1,2,train\na,B,1,2,train\n")
    row = '{"annotations": {"label": "a", "segment": [1, 2]}, "subset": "train"}'
    (tmp_path / "a.json").write_text(f'{{"A": {row}, "B": {row}}}')
    found = listing("kinetics", touched(tmp_path / "v", "A.mp4"), [tmp_path])
    assert len(found.videos) == 1
    assert missing(found) == ["B_000001_000002"]


def test_a_clip_in_two_splits_is_refused_as_listed_twice(tmp_path):
    (tmp_path / "a.csv").write_text("label,youtube_id,time_start,time_end,split\na,A,1,2,train\na,A,1,2,val\n")
    with pytest.raises(InputError, match="1 videos are listed more than once"):
        listing("kinetics", touched(tmp_path / "v", "A.mp4"), [tmp_path / "a.csv"])


def test_test_files_have_no_labels_and_json_is_read_too(tmp_path):
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\n--6bJUbfpnQ,17,27,test\n")
    (tmp_path / "val.json").write_text(
        '{"3caPS4FHFF8": {"annotations": {"label": "abseiling", "segment": [36.0, 46.0]}, "subset": "validate"}}'
    )
    root = touched(tmp_path / "v", "test/--6bJUbfpnQ.mp4", "3caPS4FHFF8.mp4")
    assert rows(listing("kinetics", root, [tmp_path])) == [
        ("--6bJUbfpnQ_000017_000027", None, "test"),
        ("3caPS4FHFF8_000036_000046", "abseiling", "val"),
    ]


def test_annotations_beside_the_videos_are_found(tmp_path, annotations):
    root = touched(tmp_path / "v", "3caPS4FHFF8.mp4")
    (root / "k400.csv").write_bytes(annotations.read_bytes())
    assert len(listing("kinetics", root).videos) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n", "expected columns"),
        ("label,youtube_id,time_start,time_end,split\na,b,x,2,train\n", "ValueError"),
        ("label,youtube_id,time_start,time_end,split\na\n", "row 2 has too few columns"),
        ("[1]", "not an object of videos"),
        ('{"a": 1}', "not an object of videos"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, text, why):
    path = tmp_path / ("a.json" if text[0] in "[{" else "a.csv")
    path.write_text(text)
    with pytest.raises(InputError, match=why):
        listing("kinetics", touched(tmp_path / "v", "x.mp4"), [path])


def test_missing_annotations_are_told(tmp_path):
    with pytest.raises(InputError, match="give the official files"):
        listing("kinetics", touched(tmp_path / "a" / "v", "x.mp4"))
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist"):
        listing("kinetics", touched(tmp_path / "v", "x.mp4"), [tmp_path / "nowhere.csv"])


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason="the annotation samples are not beside this repository")
@pytest.mark.parametrize(
    "name", ["kinetics-400_val.sample.csv", "kinetics-400_test.head.csv", "kinetics-600_val.head.csv"]
)
def test_the_official_files_are_read(tmp_path, name):
    lines = (ANNOTATIONS / "kinetics" / name).read_text().splitlines()[1:]
    column = 0 if "test" in name else 1
    import csv

    ids = [row[column] for row in csv.reader(lines)]
    root = touched(tmp_path / "v", *(f"{one}.mp4" for one in ids[::2]))
    found = listing("kinetics", root, [ANNOTATIONS / "kinetics" / name])
    assert len(found.videos) == len(ids[::2])
    assert len(found.missing) == len(ids) - len(ids[::2])


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason="the annotation samples are not beside this repository")
def test_the_variants_in_use_are_read(tmp_path):
    kinetics = ANNOTATIONS / "kinetics"
    root = touched(tmp_path / "v", "1.mp4", "2.mp4", "3.mp4")
    labelled = listing("kinetics", root, [kinetics / "variant_label_first_test.csv"])
    assert rows(labelled) == [("1_000000_000002", "label_0", "test"), ("2_000005_000007", "label_0", "test")]
    assert missing(labelled) == ["4_000010_000015"]
    found = listing("kinetics", root, [kinetics / "variant_activitynet_style_train.json"])
    assert rows(found) == [("3_000000_000002", "label_2", "train")]
