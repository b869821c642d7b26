"""Records of H.264: any frames out of the middle are those of a decode from the beginning."""

import io
from fractions import Fraction

import numpy as np
import pytest

from data_process import encoders
from data_process.decoding import decode
from data_process.errors import RunError
from data_process.ffmpeg import Picture, to_mp4
from data_process.frames import EncodedFrames
from data_process.mp4 import GROUP, StreamError, count_frames, decode_stream
from data_process.outcome import Quarantined, Stored
from data_process.records import VideoRecord
from data_process.source import SourceVideo
from data_process.transcode import transcode
from data_process.transcode_config import TranscodeConfig
from tests.sample_videos import write_video

av = pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")
FRAMES = 43


@pytest.fixture(scope="module", params=["25", "30000/1001", "7/3"])
def stream(request, tmp_path_factory):
    path = write_video(tmp_path_factory.mktemp("mp4") / "x.mp4", frames=FRAMES)
    finished = to_mp4(path, Picture((64, 80), 1, 60.0, 1 << 24), rate=Fraction(request.param), crf=21, group=GROUP)
    assert finished.status == 0
    return finished.output


@pytest.fixture(scope="module")
def everything(stream):
    with av.open(io.BytesIO(stream)) as container:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


@pytest.mark.parametrize("seed", range(30))
def test_chosen_frames_are_those_of_a_decode_from_the_beginning(stream, everything, seed):
    rng = np.random.default_rng(seed)
    numbers = np.flatnonzero(rng.random(FRAMES) < rng.random()).tolist() or [seed]
    got = list(decode_stream(stream, numbers))
    assert [number for number, _ in got] == numbers
    in_order = dict(decode_stream(stream, range(FRAMES)))
    for number, pixels in got:
        assert np.array_equal(pixels, in_order[number])
        # PyAV's plain conversion to RGB differs, neighbouring frames do by more.
        assert int(np.argmin([np.abs(pixels - other).mean() for other in everything])) == number


def test_key_frames_stand_at_every_group_and_nothing_is_reordered(stream):
    with av.open(io.BytesIO(stream)) as container:
        video = container.streams.video[0]
        packets = [packet for packet in container.demux(video) if packet.size]
    assert [place for place, packet in enumerate(packets) if packet.is_keyframe] == list(range(0, FRAMES, GROUP))
    assert all(packet.pts == packet.dts for packet in packets)
    assert count_frames(stream) == FRAMES


def test_frames_are_counted_by_decoding_them(stream):
    """The header goes on to promise all of them where the pictures are damaged, and a plain decode paints over it."""
    count, told = count_frames(stream), 0
    for seed in range(20):
        place = np.random.default_rng(seed).integers(len(stream) // 3, len(stream) - 40)
        damaged = bytearray(stream)
        damaged[place : place + 30] = bytes(byte ^ 0x5A for byte in damaged[place : place + 30])
        try:
            told += count_frames(bytes(damaged)) != count
        except StreamError:
            told += 1
    assert count == FRAMES
    assert told >= 10


def test_other_readers_find_the_same_frames(stream):
    """decord loses its place in files with edit lists or open groups; ours have neither, so peers can read them."""
    decord = pytest.importorskip("decord", reason="decord is not installed")
    ours = np.stack([pixels for _, pixels in decode_stream(stream, range(FRAMES))]).astype(int)
    reader = decord.VideoReader(io.BytesIO(stream), num_threads=1)
    assert len(reader) == FRAMES
    for seed in range(10):
        numbers = np.random.default_rng(seed).integers(0, FRAMES, 12).tolist()
        for number, pixels in zip(numbers, reader.get_batch(numbers).asnumpy().astype(int), strict=True):
            # Its conversion to RGB is another one; the nearest of all frames must be the one that was asked for.
            assert int(np.abs(ours - pixels).mean(axis=(1, 2, 3)).argmin()) == number


@pytest.mark.parametrize("frames", [0, FRAMES - 1])
def test_a_file_that_does_not_decode_to_what_went_in_is_not_stored(tmp_path, monkeypatch, frames):
    monkeypatch.setattr(encoders, "count_frames", lambda data: frames)
    path = write_video(tmp_path / "x.mp4", frames=FRAMES)
    outcome = transcode(SourceVideo(path, "x"), 0, TranscodeConfig(codec="mp4"))
    assert isinstance(outcome, Quarantined)
    assert f"{frames} frames can be decoded, {FRAMES} went in" in outcome.detail


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:200], lambda data: b"\0" * len(data)])
def test_a_damaged_file_is_told_with_its_video(stream, damage):
    record = VideoRecord("a/b", 0, "train", "mp4", FRAMES, 25.0, 64, 80)
    with pytest.raises(RunError, match="a/b: the stored video cannot be decoded"):
        decode(EncodedFrames("mp4", (3,), (damage(stream),)), record)


def test_frames_that_a_file_does_not_hold_and_other_sizes_are_told(stream):
    with pytest.raises(StreamError, match="frame 43 is not there"):
        list(decode_stream(stream, [42, 43]))
    with pytest.raises(RunError, match="a/b, frame 0 has 64x80 pixels, its record says 64x78"):
        decode(EncodedFrames("mp4", (0,), (stream,)), VideoRecord("a/b", 0, "train", "mp4", FRAMES, 25.0, 64, 78))


def test_a_video_becomes_one_unit_with_even_sides(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=30, height=57, width=91, after=("-pix_fmt", "yuv444p"))
    stored = transcode(SourceVideo(path, "x"), 3, TranscodeConfig(codec="mp4", short_side=51))
    assert isinstance(stored, Stored)
    assert (stored.header.codec, stored.header.num_frames, len(stored.units)) == ("mp4", 30, 1)
    assert (stored.header.height, stored.header.width) == (50, 80)
    pixels = decode(EncodedFrames("mp4", (0, 29), tuple(stored.units)), stored.header.as_video_record())
    assert {number: frame.shape for number, frame in pixels.items()} == {0: (50, 80, 3), 29: (50, 80, 3)}


def test_h264_and_jpeg_store_the_same_frames(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=40, fps=60)
    kept = []
    for codec in ("jpeg", "mp4"):
        stored = transcode(SourceVideo(path, "x"), 0, TranscodeConfig(codec=codec, short_side=64))
        assert isinstance(stored, Stored)
        numbers = tuple(range(stored.header.num_frames))
        pixels = decode(EncodedFrames(codec, numbers, tuple(stored.units)), stored.header.as_video_record())
        kept.append((stored.header.num_frames, stored.header.fps, np.stack(list(pixels.values())).astype(int)))
    assert kept[0][:2] == kept[1][:2] == (20, (30, 1))
    distance = np.abs(kept[0][2][:, None] - kept[1][2][None]).mean(axis=(2, 3, 4))
    assert distance.argmin(axis=1).tolist() == list(range(20)), "each frame is nearest to itself"


@pytest.mark.parametrize("content", [b"", b"no video"])
def test_what_is_no_video_is_left_out_as_with_jpegs(tmp_path, content):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    codes = [transcode(SourceVideo(path, "x"), 0, TranscodeConfig(codec=codec)) for codec in ("jpeg", "mp4")]
    assert all(isinstance(one, Quarantined) for one in codes)
    assert len({one.code for one in codes}) == 1
