import pytest

from data_process.errors import InputError
from data_process.source import SourceRequest, read_source


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root, **options):
    return [
        (video.id, video.class_name, video.split)
        for video in read_source("folder", SourceRequest(root, **options)).videos
    ]


def test_sub_folders_are_classes(tmp_path):
    touch(tmp_path, "run/b.mp4", "run/a.AVI", "jump/deep/c.webm")
    assert found(tmp_path) == [("jump/deep/c", "jump", "train"), ("run/a", "run", "train"), ("run/b", "run", "train")]
    assert found(tmp_path, split="test")[0][2] == "test"


def test_videos_without_folders_have_no_class(tmp_path):
    assert found(touch(tmp_path, "x.mp4", "y.mkv")) == [("x", None, "train"), ("y", None, "train")]


def test_split_folders_are_splits_and_stand_in_the_ids(tmp_path):
    touch(tmp_path, "train/run/x.mp4", "test/run/x.mp4", "val/run/x.mp4")
    assert found(tmp_path) == [
        ("test/run/x", "run", "test"),
        ("train/run/x", "run", "train"),
        ("val/run/x", "run", "val"),
    ]


def test_a_class_called_test_beside_others_is_a_class(tmp_path):
    assert found(touch(tmp_path, "test/x.mp4", "run/x.mp4")) == [("run/x", "run", "train"), ("test/x", "test", "train")]


def test_files_that_differ_in_their_ending_are_two_videos(tmp_path):
    assert [one[0] for one in found(touch(tmp_path, "a/x.mp4", "a/x.avi"))] == ["a/x.avi", "a/x.mp4"]


def test_other_and_hidden_files_are_left_out(tmp_path):
    touch(tmp_path, "a/x.mp4", "a/notes.txt", "a/._x.mp4", ".trash/y.mp4", "a/.thumbs/z.mp4")
    assert [one[0] for one in found(tmp_path)] == ["a/x"]


def test_awkward_names_are_kept_as_they_are(tmp_path):
    names = ["-dash", "te[s]t ' _", "dots.in.name", "ünï\u2028code", "%d"]
    touch(tmp_path, *(f"{name}.mp4" for name in names))
    assert [one[0] for one in found(tmp_path)] == sorted(names)


def test_links_to_folders_are_followed_but_not_round_in_circles(tmp_path):
    real = touch(tmp_path / "elsewhere", "x.mp4")
    root = touch(tmp_path / "root", "own/y.mp4")
    (root / "linked").symlink_to(real)
    (root / "own" / "back").symlink_to(root)
    assert [one[0] for one in found(root)] == ["linked/x", "own/y"]


def test_a_folder_of_no_videos_is_wrong_input(tmp_path):
    with pytest.raises(InputError, match=r"holds no videos; expected files such as"):
        read_source("folder", SourceRequest(touch(tmp_path, "notes.txt")))


def test_a_missing_folder_is_wrong_input(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        read_source("folder", SourceRequest(tmp_path / "nowhere"))


def test_a_file_is_no_folder(tmp_path):
    with pytest.raises(InputError, match="--dataset list"):
        read_source("folder", SourceRequest(touch(tmp_path, "x.csv") / "x.csv"))
