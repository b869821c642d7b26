"""Grey frames come while ffmpeg decodes, and ffmpeg is charged only for the time that it takes itself."""

import os
import time
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from data_process.ffmpeg import Picture
from data_process.grey_frames import GreyFrames
from tests.sample_videos import pictures, write_video

PICTURE = Picture((64, 80), keep_every=1, limit_s=30.0, max_bytes=1 << 20)


def test_the_frames_are_those_of_the_video_in_order(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=20, after=["-qp", "0"])
    with GreyFrames(path, PICTURE) as frames:
        decoded = np.stack(list(frames)).astype(int)
    luma = pictures(0, frames=20, height=64, width=80) @ [0.299, 0.587, 0.114]
    assert decoded.shape == luma.shape
    # The video has limited range, grey is full: rounding twice.
    assert np.abs(decoded - luma).mean() < 1.5
    assert frames.num_frames == 20
    assert frames.finished.status == 0
    assert frames.finished.times == tuple(range(0, 800_000, 40_000))


def test_every_second_frame_can_be_left_out(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=9)
    with GreyFrames(path, replace(PICTURE, keep_every=2)) as frames:
        assert len(list(frames)) == 5


def test_no_more_is_decoded_ahead_than_a_pipe_holds(tmp_path):
    """Two thousand frames of which two are taken: ffmpeg stops with them instead of finishing for nobody."""
    path = write_video(tmp_path / "x.mp4", frames=2000)
    with GreyFrames(path, PICTURE) as frames:
        assert len(list(islice(frames, 2))) == 2
    assert frames.num_frames == 2
    assert len(frames.finished.times) < 1000


def test_a_slow_reader_is_not_taken_for_a_hung_file(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=300)  # 1.5 MB, of which a pipe holds but a part
    with GreyFrames(path, replace(PICTURE, limit_s=2.0)) as frames:
        for number, _ in enumerate(frames):
            if number == 3:
                time.sleep(2.5)
    assert frames.finished.status == 0
    assert frames.num_frames == 300


def test_a_hung_file_ends_at_the_time_limit(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    start = time.monotonic()
    with GreyFrames(tmp_path / "pipe.mp4", replace(PICTURE, limit_s=0.5)) as frames:
        assert list(frames) == []
    assert frames.finished.status is None
    assert time.monotonic() - start < 10


def test_an_error_of_the_reader_comes_through_and_leaves_nothing_running(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=2000)
    before = len(os.listdir("/proc/self/fd"))
    frames = GreyFrames(path, PICTURE)
    with pytest.raises(ZeroDivisionError):
        fail_at_the_first_of(frames)
    assert frames.finished.status != 0
    assert len(os.listdir("/proc/self/fd")) == before


def fail_at_the_first_of(frames):
    with frames:
        for _ in frames:
            raise ZeroDivisionError


def test_what_is_no_video_gives_no_frame_and_the_reason(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no video at all")
    with GreyFrames(tmp_path / "x.mp4", PICTURE) as frames:
        assert list(frames) == []
    assert frames.finished.status != 0
    assert any("Invalid data" in message for message in frames.finished.messages)
