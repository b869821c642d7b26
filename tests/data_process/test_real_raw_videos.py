"""Real video files read without shards: what a build stores of them, and what PyAV decodes from their beginning."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_process.decoding import decode
from data_process.frames import RGB, EncodedFrames
from data_process.outcome import Stored
from data_process.raw_videos import RawVideos
from data_process.source import SourceVideo
from data_process.transcode import transcode
from data_process.transcode_config import TranscodeConfig

CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "clips"
pytestmark = pytest.mark.skipif(not CLIPS.is_dir(), reason="real videos are not here (../shared/data/clips)")
av = pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")

CONFIG = TranscodeConfig(short_side=64, quality=2, min_frames=1)
MISREAD = (
    "TrumanShow_wave_f_nm_np1_fr_med_26.avi", "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi", "cityCC0.mpg",
    "clip-video-encode_vid1.mp4", "filetype_fixture2.mpg", "nasa_13013.mp4", "test_video_66x50.mov",
)  # fmt: skip
"""Files of which decord gives other frames than asked for, repeats some, or hangs (the manifest's notes)."""
TURNED = {
    "decord_video_90.mov": 90, "decord_video_180.mov": 180, "decord_video_270.mov": 270, "fire2.mp4": 180,
    "php-ffmpeg_portrait.MOV": 90, "streamio_ios9.mov": 90,
}  # fmt: skip
"""File to degrees clockwise that PyAV leaves to its caller."""
THINNED = {"test_video_66x50.mov": 2}
"""File to which of its frames are kept, every second for instance: those above 30 frames a second."""


def opened(name, **options):
    return RawVideos([SourceVideo(CLIPS / name, Path(name).stem)], name=name, jobs=1, **options)


def manifest():
    if not CLIPS.is_dir():
        return {}
    with (CLIPS / "manifest.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def from_the_beginning(name, height, width):
    """PyAV's frames, turned as their file asks and then scaled, (N, height, width, 3) int."""
    quarters = -TURNED.get(name, 0) // 90
    sides = (width, height) if quarters % 2 else (height, width)
    kind = av.video.reformatter.Interpolation
    how = {"interpolation": kind.BICUBIC | kind.ACCURATE_RND | kind.FULL_CHR_H_INT}
    with av.open(str(CLIPS / name)) as container:
        frames = [
            frame.reformat(height=sides[0], width=sides[1], format="rgb24", **how).to_ndarray()
            for frame in container.decode(container.streams.video[0])
        ]
    return np.stack([np.rot90(frame, quarters) for frame in frames]).astype(int)


@pytest.mark.parametrize("name", [*MISREAD, *TURNED])
def test_frames_asked_for_by_number_are_those_of_a_decode_from_the_beginning(name):
    videos = opened(name, short_side=64)
    record = videos[0]
    whole = from_the_beginning(name, record.height, record.width)
    assert len(whole) == int(manifest()[name]["frames"])
    expected = whole[:: THINNED.get(name, 1)]
    assert record.num_frames == len(expected)
    numbers = sorted({*np.random.default_rng(0).integers(0, len(expected), 12).tolist(), len(expected) - 1})
    found = decode(videos.read_frames(0, numbers), record)
    for number in numbers:
        distance = np.abs(expected - found[number]).mean(axis=(1, 2, 3))
        assert distance[number] < 4, number
        assert distance[number] <= distance.min() + 0.5, (number, int(distance.argmin()))


@pytest.mark.parametrize("name", sorted(manifest()))
def test_a_file_is_judged_as_by_a_build(name):
    """The same record or reason, and pictures that differ by what JPEG loses."""
    built = transcode(SourceVideo(CLIPS / name, Path(name).stem), -1, CONFIG)
    videos = opened(name, short_side=CONFIG.short_side)
    if not isinstance(built, Stored):
        assert [outcome.code for _, outcome in videos.left_out] == [built.code]
        return
    record = built.header.as_video_record()
    assert videos[0] == replace(record, codec=RGB)
    assert videos.is_degraded(0) == (built.header.state == "degraded")
    numbers = tuple(sorted({0, record.num_frames // 2, record.num_frames - 1}))
    stored = decode(EncodedFrames("jpeg", numbers, tuple(built.units[number] for number in numbers)), record)
    for number, pixels in decode(videos.read_frames(0, numbers), videos[0]).items():
        # Brightness only: test cards lose up to 11 levels to the halved colours.
        assert np.abs((pixels - stored[number].astype(int)) @ [0.299, 0.587, 0.114]).mean() < 2.5
