import io
import subprocess
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from data_process import ffmpeg
from data_process.decoding import decode
from data_process.errors import InputError
from data_process.frames import EncodedFrames
from data_process.killable import Finished
from data_process.outcome import Quarantined, Stored
from data_process.probe import probe
from data_process.source import SourceVideo
from data_process.transcode import transcode
from data_process.transcode_config import TranscodeConfig
from tests.sample_videos import pictures, write_video


def outcome_of(path, label=0, **settings):
    return transcode(
        SourceVideo(path, "class/name", "class", "val"), label, TranscodeConfig(**{"short_side": 64, **settings})
    )


def decoded(outcome):
    return np.stack([simplejpeg.decode_jpeg(unit) for unit in outcome.units])


def test_all_real_frames_are_stored_as_they_were(tmp_path):
    outcome = outcome_of(write_video(tmp_path / "x.mp4", frames=24, after=("-crf", "10")), label=5)
    header = outcome.header
    assert (header.id, header.label, header.split, header.state) == ("class/name", 5, "val", "ok")
    assert (header.num_frames, header.fps, header.height, header.width) == (24, (25, 1), 64, 80)
    assert (header.source["codec"], header.source["rot"], header.source["vfr"]) == ("h264", 0, False)
    assert header.source["bytes"] == (tmp_path / "x.mp4").stat().st_size
    assert outcome.remarks == {}
    grey = decoded(outcome).astype(float).mean(axis=-1), pictures(0, frames=24, height=64, width=80).mean(axis=-1)
    assert np.abs(grey[0] - grey[1]).mean() < 8  # chroma is halved on the way; the frame before differs by 40


def test_the_same_file_gives_the_same_bytes(tmp_path):
    path = write_video(tmp_path / "x.mp4")
    assert outcome_of(path).units == outcome_of(path).units


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_videos_are_stored_upright(tmp_path, degrees):
    plain = outcome_of(write_video(tmp_path / "plain.mp4", frames=16, width=96, after=("-crf", "10")))
    path = tmp_path / "turned.mp4"
    command = [
        ffmpeg.executable(),
        "-v",
        "error",
        "-display_rotation",
        str(-degrees),
        "-i",
        str(tmp_path / "plain.mp4"),
    ]
    assert ffmpeg.run([*command, "-c", "copy", str(path)], limit_s=30).status == 0
    turned = outcome_of(path, short_side=96)
    assert turned.header.source["rot"] == degrees
    expected = np.rot90(decoded(plain), k=-degrees // 90, axes=(1, 2))
    assert (turned.header.height, turned.header.width) == expected.shape[1:3]
    assert np.abs(decoded(turned).astype(float) - expected).mean() < 6


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    outcome = outcome_of(write_video(tmp_path / "x.mp4", after=("-vf", "setsar=4/3")))
    assert (outcome.header.height, outcome.header.width) == (64, 107)
    assert outcome.header.source["sar"] == [4, 3]


@pytest.mark.parametrize(
    ("fps", "frames", "kept", "rate"),
    [
        (25, 24, 24, (25, 1)),
        (30, 24, 24, (30, 1)),
        (60, 49, 25, (30, 1)),
        (50, 48, 24, (25, 1)),
        (120, 81, 21, (30, 1)),
    ],
)
def test_fast_videos_are_thinned_by_a_whole_factor(tmp_path, fps, frames, kept, rate):
    outcome = outcome_of(write_video(tmp_path / "x.mp4", fps=fps, frames=frames, after=("-crf", "10")))
    assert (outcome.header.num_frames, outcome.header.fps) == (kept, rate)
    originals = pictures(0, frames=frames, height=64, width=80)[:: fps // rate[0]].mean(axis=-1)
    assert np.abs(decoded(outcome).mean(axis=-1) - originals).mean() < 8


def test_a_variable_rate_invents_and_drops_no_frame(tmp_path):
    slow = "setpts='(N+if(gte(N,12),3*(N-12),0))/25/TB'"
    outcome = outcome_of(write_video(tmp_path / "x.mkv", frames=24, after=("-vf", slow, "-fps_mode", "passthrough")))
    assert outcome.header.num_frames == 24
    assert outcome.header.source["vfr"]
    assert outcome.header.fps[0] / outcome.header.fps[1] < 16
    assert len(set(outcome.units)) == 24


def test_a_raw_stream_without_times_is_read_whole(tmp_path):
    outcome = outcome_of(write_video(tmp_path / "x.h264", frames=20))
    assert isinstance(outcome, Stored)
    assert outcome.header.num_frames == 20


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [
        ("ffv1", "yuv444p"), ("ffv1", "gray"), ("ffv1", "yuv420p10le"), ("ffv1", "yuva420p"), ("mjpeg", "yuvj420p"),
        ("mpeg4", "yuv420p"),
    ],
)  # fmt: skip
def test_other_codecs_and_pixel_formats_become_plain_jpegs(tmp_path, codec, pixels):
    after = ("-c:v", codec, "-pix_fmt", pixels)
    outcome = outcome_of(write_video(tmp_path / "x.mkv", frames=16, width=66, height=50, after=after))
    picture = Image.open(io.BytesIO(outcome.units[0]))
    assert (picture.size, picture.mode, outcome.header.num_frames) == ((66, 50), "RGB", 16)
    assert b"Lavc" not in outcome.units[0]


def test_flat_and_small_videos_are_stored_with_a_remark(tmp_path):
    flat = outcome_of(write_video(tmp_path / "flat.mp4", width=320, height=240, black=True), short_side=240)
    assert set(flat.remarks) == {"flat"}
    small = outcome_of(write_video(tmp_path / "small.mp4", width=80, height=62))
    assert set(small.remarks) == {"small"}
    assert (flat.header.state, small.header.state) == ("ok", "ok")


def empty(path):
    path.write_bytes(b"")


def no_video(path):
    path.write_bytes(b"these are words and no pictures" * 100)


def cut_before_index(path):
    path.write_bytes(write_video(path).read_bytes()[:2000])


def audio_only(path):
    command = [ffmpeg.executable(), "-v", "error", "-y", "-f", "lavfi", "-i", "sine=duration=1", str(path)]
    assert ffmpeg.run(command, limit_s=30).status == 0


def write_starting_with_index(path, share, frames=50):
    content = write_video(path, frames=frames, after=("-movflags", "+faststart")).read_bytes()
    begin = content.index(b"mdat") + 4
    path.write_bytes(content[: begin + int((len(content) - begin) * share)])


REFUSED = [
    ("empty_file", empty),
    ("unreadable", no_video),
    ("unreadable", cut_before_index),
    ("no_video_stream", audio_only),
    ("truncated", lambda path: write_starting_with_index(path, 0.4)),
    ("truncated", lambda path: write_starting_with_index(path, 0.2)),
    ("too_short", lambda path: write_video(path, frames=15)),
    ("too_short", lambda path: write_video(path, frames=1)),
]  # fmt: skip


@pytest.mark.parametrize(("code", "make"), REFUSED)
def test_what_cannot_be_stored_is_left_out_with_its_reason(tmp_path, code, make):
    path = tmp_path / "x.mp4"
    make(path)
    outcome = outcome_of(path)
    assert isinstance(outcome, Quarantined)
    assert (outcome.code, outcome.attempts) == (code, 1)
    assert outcome.detail
    assert "@ 0x" not in outcome.detail


@pytest.mark.parametrize("claim", [{"width": 12336, "height": 12336}, {"aspect": Fraction(255)}])
def test_a_header_that_claims_too_many_pixels_is_not_decoded(tmp_path, monkeypatch, claim):
    path = write_video(tmp_path / "x.mp4")
    claimed = replace(probe(path), **claim)
    monkeypatch.setattr("data_process.transcode.probe", lambda path, **_: claimed)
    monkeypatch.setattr(ffmpeg, "to_jpegs", lambda *args, **options: pytest.fail("it was decoded"))
    assert outcome_of(path).code == "bad_size"


def test_a_header_that_is_wrong_about_the_rate_is_found_out(tmp_path, monkeypatch):
    path = write_video(tmp_path / "x.mp4", frames=40, fps=60)
    expected = outcome_of(path)
    claimed = replace(probe(path), rate=Fraction(25))
    monkeypatch.setattr("data_process.transcode.probe", lambda path, **_: claimed)
    outcome = outcome_of(path)
    assert outcome.units == expected.units
    assert (outcome.header.num_frames, outcome.header.fps) == (20, (30, 1))


def test_a_file_cut_near_its_end_is_stored_as_degraded(tmp_path):
    write_starting_with_index(tmp_path / "x.mp4", 0.7)
    outcome = outcome_of(tmp_path / "x.mp4")
    assert outcome.header.state == "degraded"
    assert 25 <= outcome.header.num_frames < 45
    assert "%" in outcome.remarks["degraded"]


def damaged_inside(path):
    content = bytearray(write_video(path, frames=40, after=("-movflags", "+faststart")).read_bytes())
    begin = content.index(b"mdat") + 2000
    for position in range(begin, len(content), (len(content) - begin) // 30):
        content[position] ^= 0x55
    path.write_bytes(content)


def test_damage_inside_is_stored_as_degraded_or_left_out_if_strict(tmp_path):
    damaged_inside(tmp_path / "x.mp4")
    outcome = outcome_of(tmp_path / "x.mp4")
    assert outcome.header.state == "degraded"
    assert "complaints of the decoder" in outcome.remarks["degraded"]
    strict = outcome_of(tmp_path / "x.mp4", strict=True)
    assert (strict.code, strict.detail) == ("degraded", outcome.remarks["degraded"])


def test_what_the_decoder_says_does_not_reach_the_stored_bytes(tmp_path):
    damaged_inside(tmp_path / "x.mp4")
    one, two = outcome_of(tmp_path / "x.mp4"), outcome_of(tmp_path / "x.mp4")
    assert one.units == two.units
    assert "complaints" not in repr(one.header)


@pytest.mark.parametrize(
    ("finished", "code"),
    [
        (Finished(None, b"", ()), "timeout"),
        (Finished(-11, b"", ()), "decoder_crash"),
    ],
)
def test_reasons_of_the_moment_are_tried_three_times_with_doubled_limits(tmp_path, monkeypatch, finished, code):
    path = write_video(tmp_path / "x.mp4")
    real, limits = ffmpeg.run, []

    def fake(command, *, limit_s, pass_fds=(), **_):
        if not pass_fds:
            return real(command, limit_s=limit_s)  # the probe
        limits.append(limit_s)
        return finished

    monkeypatch.setattr(ffmpeg, "run", fake)
    outcome = outcome_of(path)
    assert (outcome.code, outcome.attempts) == (code, 3)
    assert limits == [60.0, 120.0, 240.0]


def test_a_second_try_that_works_is_stored(tmp_path, monkeypatch):
    path = write_video(tmp_path / "x.mp4")
    expected, real, calls = outcome_of(path), ffmpeg.run, []

    def fails_once(command, *, limit_s, pass_fds=(), **others):
        calls.append(command)
        return Finished(-9, b"", ()) if len(calls) == 2 else real(command, limit_s=limit_s, pass_fds=pass_fds, **others)

    monkeypatch.setattr(ffmpeg, "run", fails_once)
    assert outcome_of(path).units == expected.units


def test_a_file_that_vanished_is_a_read_error(tmp_path):
    outcome = outcome_of(tmp_path / "gone.mp4")
    assert (outcome.code, outcome.attempts) == ("read_error", 3)


@pytest.mark.parametrize(
    "wrong", [{"short_side": 0}, {"quality": 0}, {"quality": 32}, {"min_frames": 0}, {"nominal_fps": 0.0}]
)
def test_settings_out_of_range_are_wrong_input(wrong):
    with pytest.raises(InputError, match=next(iter(wrong)).replace("_", " ")):
        TranscodeConfig(**wrong)


PATCHES = np.array([[200, 40, 60], [30, 180, 90], [20, 60, 220], [128, 128, 128], [250, 200, 30]], np.uint8)


@pytest.mark.parametrize("codec", ["jpeg", "mp4"])
@pytest.mark.parametrize(("matrix", "tag"), [("bt601", "smpte170m"), ("bt709", "bt709")])
def test_colours_are_those_of_the_source_whatever_matrix_it_has(tmp_path, codec, matrix, tag):
    if codec == "mp4":
        pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")
    picture = np.repeat(np.repeat(PATCHES[None], 64, axis=0), 64, axis=1)
    words = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "320x64", "-r", "25", "-i", "pipe:0"]
    words += ["-vf", f"scale=out_color_matrix={matrix}:flags=accurate_rnd+full_chroma_int+full_chroma_inp"]
    words += ["-pix_fmt", "yuv444p", "-c:v", "libx264", "-crf", "1", "-colorspace", tag, str(tmp_path / "x.mp4")]
    content = np.stack([picture] * 20).tobytes()
    subprocess.run([ffmpeg.executable(), "-y", "-v", "error", *words], input=content, check=True)
    stored = outcome_of(tmp_path / "x.mp4", short_side=64, codec=codec, quality=2 if codec == "jpeg" else 10)
    units = (stored.units[3],) if codec == "jpeg" else tuple(stored.units)
    frame = decode(EncodedFrames(codec, (3,), units), stored.header.as_video_record())[3]
    middles = frame[32, 32::64].astype(int)
    assert np.abs(middles - PATCHES).max() <= 3
