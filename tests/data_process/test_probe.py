from fractions import Fraction

import pytest

from data_process.probe import StreamFacts, _parse_probe, probe
from tests.sample_videos import write_video


def facts(**changes):
    given = {
        "codec": "h264", "width": 640, "height": 360, "rate": Fraction(25), "duration": 4.0, "rotation": 0.0,
        "aspect": Fraction(1),
    }  # fmt: skip
    return StreamFacts(**{**given, **changes})


def parsed(*lines):
    return _parse_probe(tuple(lines))


STREAM = (
    "Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p(tv, bt709, progressive), 568x320"
    " [SAR 4:3 DAR 71:30], 421 kb/s, 29.98 fps, 30 tbr, 600 tbn (default)"
)


def test_facts_are_read_from_what_ffmpeg_prints():
    found = parsed("Duration: 01:02:03.50, start: 0.000000, bitrate: 936 kb/s", STREAM, "rotation of -90.00 degrees")
    assert found.codec == "h264"
    assert (found.width, found.height, found.aspect) == (568, 320, Fraction(4, 3))
    assert found.rate == Fraction("29.98")
    assert (found.duration, found.rotation) == (3723.5, 90.0)


def test_the_first_video_stream_counts_and_cover_pictures_do_not():
    cover = STREAM.replace("568x320", "100x100") + " (attached pic)"
    audio = "Stream #0:1: Audio: aac (LC), 44100 Hz, stereo"
    second = STREAM.replace("568x320", "480x270")
    found = parsed(cover, audio, STREAM, second, "rotation of -90.00 degrees")
    assert (found.width, found.rotation) == (568, 0.0)
    assert parsed(audio) is None


@pytest.mark.parametrize(
    ("written", "rate"),
    [("29.97 fps", Fraction(30000, 1001)), ("23.98 fps", Fraction(24000, 1001)), ("25 fps", 25),
     ("1k fps", 1000), ("14.99 fps", Fraction("14.99")), ("0 fps", None), ("", None)],
)  # fmt: skip
def test_rates_are_read_as_they_are_meant(written, rate):
    assert parsed(STREAM.replace("29.98 fps", written)).rate == rate


def test_the_pixel_aspect_of_the_container_overrules_that_of_the_codec():
    both = STREAM.replace("421 kb/s", "421 kb/s, SAR 63:44 DAR 7:4")
    assert parsed(both).aspect == Fraction(63, 44)
    assert parsed(STREAM.replace("SAR 4:3", "SAR 0:1")).aspect == 1
    assert parsed(STREAM.replace(" [SAR 4:3 DAR 71:30]", "")).aspect == 1


def test_no_number_for_the_duration_is_no_duration():
    assert parsed("Duration: N/A, start: 0.000000, bitrate: N/A", STREAM).duration is None


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (256, 455)),
        ({"rotation": 90.0}, (455, 256)),
        ({"rotation": 180.0}, (256, 455)),
        ({"width": 120, "height": 90}, (90, 120)),
        ({"width": 720, "height": 576, "aspect": Fraction(16, 15)}, (256, 341)),
        ({"width": 1, "height": 1}, (1, 1)),
        ({"width": 1000, "height": 2}, (2, 1000)),
    ],
)
def test_frames_are_upright_square_pixelled_and_never_enlarged(changes, size):
    assert facts(**changes).stored_size(256) == size


def test_the_probe_agrees_with_the_file(tmp_path):
    found = probe(write_video(tmp_path / "x.mp4", width=80, height=64, fps=25, frames=25))
    assert (found.codec, found.width, found.height, found.rate, found.duration) == ("h264", 80, 64, 25, 1.0)
