"""Video files without shards: the frames and facts that a build would store, any subset of them, and damage told."""

import os
import pickle
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_process import ffmpeg, raw_videos
from data_process.build_config import BuildConfig
from data_process.chosen_videos import ChosenVideos
from data_process.decoding import decode
from data_process.errors import InputError, RunError
from data_process.frames import RGB, EncodedFrames
from data_process.outcome import Stored
from data_process.raw_videos import RawVideos, find_raw_videos
from data_process.records import VideoRecord
from data_process.source import SourceVideo
from data_process.transcode import transcode
from data_process.transcode_config import TranscodeConfig
from tests.sample_videos import write_video

FRAMES = 40
KINDS = {
    "plain": {},
    "odd sides": {"height": 57, "width": 91, "after": ("-pix_fmt", "yuv444p")},
    "thinned out": {"fps": 60},
    "wide pixels": {"after": ("-vf", "setsar=4/3")},
    "scaled down": {"height": 96, "width": 128},
    "b-frames": {"after": ("-preset", "medium", "-bf", "3", "-g", "250")},
    "long names -- [x]: 'y'": {},
}


def raw(*paths, **options):
    return RawVideos([SourceVideo(path, path.stem) for path in paths], name="files", jobs=1, **options)


def pixels_of(videos, index, numbers=None):
    record = videos[index]
    return decode(videos.read_frames(index, range(record.num_frames) if numbers is None else numbers), record)


def brightness(frames):
    return np.stack(list(frames.values())) @ np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("raw") / "x.mp4", frames=FRAMES, after=("-g", "250", "-bf", "2"))


@pytest.fixture(scope="module")
def videos(video):
    return raw(video)


@pytest.fixture(scope="module")
def everything(videos):
    return pixels_of(videos, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_has_the_facts_and_frames_that_a_build_stores(kind, tmp_path):
    path = write_video(tmp_path / f"{kind}.mp4", frames=FRAMES, **KINDS[kind])
    stored = transcode(SourceVideo(path, path.stem), -1, TranscodeConfig(short_side=64, quality=1))
    assert isinstance(stored, Stored)
    expected, videos = stored.header.as_video_record(), raw(path, short_side=64)
    assert videos[0] == replace(expected, codec=RGB)
    frames = tuple(range(expected.num_frames))
    jpegs = decode(EncodedFrames("jpeg", frames, tuple(stored.units)), expected)
    # Brightness only: JPEG halves the colours, which costs this saturated noise 24 levels where the source does not.
    distance = np.abs(brightness(pixels_of(videos, 0))[:, None] - brightness(jpegs)[None]).mean(axis=(2, 3))
    assert distance.argmin(axis=1).tolist() == list(frames)
    assert distance.diagonal().max() < 3


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_pictures_are_turned_as_the_file_asks(degrees, tmp_path, video, everything):
    turned = tmp_path / "turned.mp4"
    ask = ["-v", "error", "-display_rotation", str(degrees), "-i", str(video), "-c", "copy", str(turned)]
    subprocess.run([ffmpeg.executable(), *ask], check=True, capture_output=True)
    videos = raw(turned)
    assert (videos[0].height, videos[0].width) == ((64, 80) if degrees == 180 else (80, 64))
    for number, pixels in pixels_of(videos, 0).items():
        # The turn comes before the conversion to RGB, which then takes its halved colours from other neighbours.
        assert np.abs(pixels.astype(int) - np.rot90(everything[number], degrees // 90)).mean() < 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(0, FRAMES - 1), max_size=60))
def test_any_frames_in_any_order_are_those_of_a_read_from_the_beginning(videos, everything, numbers):
    found = pixels_of(videos, 0, numbers)
    assert list(found) == sorted(set(numbers))
    assert all(np.array_equal(found[number], everything[number]) for number in found)


def test_more_frames_than_ffmpeg_takes_in_a_sum_or_a_command_line_holds(tmp_path, monkeypatch):
    videos = raw(write_video(tmp_path / "x.mp4", frames=400, height=16, width=16))
    odd = range(1, 400, 2)
    whole = pixels_of(videos, 0)
    assert len(whole) == 400
    monkeypatch.setattr(raw_videos, "_FRAMES_A_RUN", 64)
    parts = pixels_of(videos, 0, odd)
    assert list(parts) == list(odd)
    assert all(np.array_equal(parts[number], whole[number]) for number in odd)


def test_frames_behind_a_change_of_size_are_found(tmp_path):
    """Numbers of frames begin anew there in ffmpeg's filters."""
    parts = [
        write_video(tmp_path / f"{n}.h264", seed=n, frames=20, height=64 // n, width=80 // n, after=("-f", "h264"))
        for n in (1, 2)
    ]
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    videos, second = raw(both), raw(parts[1])
    assert videos[0].num_frames == 40
    found, expected = pixels_of(videos, 0, [2, 25]), pixels_of(second, 0, [5])
    assert found[25].shape == (64, 80, 3)
    assert np.abs(found[25][::2, ::2].astype(int) - expected[5]).mean() < 30
    assert np.abs(found[25].astype(int) - found[2]).mean() > 50


def test_what_a_build_would_leave_out_is_left_out_with_its_reason(tmp_path, video):
    empty, text, short = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "short.mp4"
    empty.touch()
    text.write_bytes(b"no video")
    write_video(short, frames=5)
    videos = raw(empty, video, text, short, min_frames=16)
    assert [record.id for record in videos] == ["x"]
    left_out = {one.id: outcome.code for one, outcome in videos.left_out}
    assert left_out == {"empty": "empty_file", "text": "unreadable", "short": "too_short"}


def test_labels_ids_and_splits_are_those_of_a_dataset(video):
    given_videos = [
        SourceVideo(video, "run/a", "run", "test"),
        SourceVideo(video, "walk/b", "walk", "test"),
        SourceVideo(video, "c", None, "test"),
    ]
    videos = RawVideos(given_videos, name="files", jobs=1)
    assert videos.classes == ("run", "walk")
    assert list(videos.ids()) == ["run/a", "walk/b", "c"]
    assert list(ChosenVideos(videos, ["c", "run/a"]).ids()) == ["run/a", "c"]
    assert videos.labels.tolist() == [0, 1, -1]
    assert videos.num_frames.tolist() == [FRAMES] * 3
    assert (videos.split, len(videos), videos.index_of("walk/b")) == ("test", 3, 1)
    with pytest.raises(KeyError, match="'d' is not in files"):
        videos.index_of("d")
    assert videos.digest != RawVideos(given_videos[:2], name="files", jobs=1).digest
    with pytest.raises(InputError, match="ids stand for more than one file"):
        RawVideos([given_videos[0], given_videos[0]], name="files", jobs=1)


def test_copies_and_threads_read_the_same(videos, everything):
    copy = pickle.loads(pickle.dumps(videos))
    assert copy.digest == videos.digest
    with ThreadPoolExecutor(4) as pool:
        for number, found in zip(range(8), pool.map(lambda n: pixels_of(copy, 0, [n]), range(8)), strict=True):
            assert np.array_equal(found[number], everything[number])


@pytest.mark.parametrize("numbers", [[-1], [0, FRAMES]])
def test_frames_that_a_video_does_not_have_are_refused(videos, numbers):
    with pytest.raises(IndexError, match=f"of {FRAMES}"):
        videos.read_frames(0, numbers)


def test_a_file_that_changed_is_told(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=30)
    videos = raw(path)
    write_video(path, frames=20)
    assert len(pixels_of(videos, 0, [19])) == 1
    with pytest.raises(RunError, match=r"x: frames 5\.\.25 .* was the file changed"):
        videos.read_frames(0, [5, 25])
    path.unlink()
    with pytest.raises(RunError, match="x: frames"):
        videos.read_frames(0, [5])


def test_a_file_that_does_not_answer_is_given_up(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=20)
    videos = raw(path)
    path.unlink()
    os.mkfifo(path)
    videos._files[0] = replace(videos._files[0], picture=replace(videos._files[0].picture, limit_s=0.5))
    with pytest.raises(RunError, match="x: no end after"):
        videos.read_frames(0, [3])


def test_pixels_are_never_stored():
    with pytest.raises(InputError, match="codec rgb is not for storing"):
        BuildConfig(transcode=TranscodeConfig(codec=RGB))


def test_pixels_of_another_size_are_told():
    record = VideoRecord("a/b", 0, "train", RGB, 9, 25.0, 4, 5)
    with pytest.raises(RunError, match="a/b, frame 3: 59 bytes are not 4x5 pixels"):
        decode(EncodedFrames(RGB, (3,), (bytes(59),)), record)


def test_a_file_or_a_folder_with_classes_and_splits_is_found(tmp_path):
    write_video(tmp_path / "train" / "run" / "a.mp4")
    path = write_video(tmp_path / "test" / "walk" / "b.mp4")
    found = [(video.id, video.class_name, video.split) for video in find_raw_videos(tmp_path)]
    assert found == [("test/walk/b", "walk", "test"), ("train/run/a", "run", "train")]
    assert [(video.id, video.class_name) for video in find_raw_videos(path)] == [("b", None)]
    with pytest.raises(InputError, match="does not exist"):
        find_raw_videos(tmp_path / "nowhere")
