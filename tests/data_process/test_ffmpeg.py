import os
import tempfile
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from data_process import ffmpeg
from data_process.errors import InputError, RunError
from data_process.ffmpeg import Picture, to_jpegs, to_mp4
from data_process.probe import probe
from tests.full_disk import small_disk
from tests.sample_videos import write_video

PICTURE = Picture((64, 80), keep_every=1, limit_s=30.0, max_bytes=1 << 20)


@pytest.mark.parametrize("name", ["-y.mp4", "a: b.mp4", "[x] 'y' %d.mp4", "é\u2028.mp4"])
def test_names_are_never_taken_for_options_or_patterns(tmp_path, monkeypatch, name):
    write_video(tmp_path / name, frames=3)
    monkeypatch.chdir(tmp_path)
    assert probe(Path(name)).width == 80
    finished = to_jpegs(Path(name), PICTURE, quality=3)
    assert finished.output.count(b"\xff\xd8\xff") == 3
    assert finished.times == (0, 40_000, 80_000)


def test_the_output_stops_at_its_limit(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=50)
    finished = to_jpegs(path, replace(PICTURE, max_bytes=20_000), quality=3)
    assert len(finished.output) < 40_000


@pytest.mark.parametrize(
    ("program", "named"), [("/nowhere/ffmpeg", "is not a program"), ("/bin/true", "is not ffmpeg")]
)
def test_a_wrong_program_is_named_with_its_variable(monkeypatch, program, named):
    monkeypatch.setenv("INTRAVID_FFMPEG", program)
    ffmpeg.executable.cache_clear()
    ffmpeg.version.cache_clear()
    try:
        with pytest.raises(InputError, match=f"{named}.*INTRAVID_FFMPEG|INTRAVID_FFMPEG.*{named}"):
            ffmpeg.version()
    finally:
        monkeypatch.undo()
        ffmpeg.executable.cache_clear()
        ffmpeg.version.cache_clear()


def test_h264_does_not_depend_on_the_run_and_keeps_the_times_of_the_source(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=20)
    one, two = (to_mp4(path, PICTURE, rate=Fraction(30000, 1001), crf=21, group=8) for _ in range(2))
    assert one.output == two.output
    assert one.status == 0
    assert one.times == to_jpegs(path, PICTURE, quality=3).times == tuple(range(0, 800_000, 40_000))
    assert one.output.index(b"moov") < one.output.index(b"mdat"), "the index stands in front"


def test_every_second_frame_can_be_left_out(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=9)
    finished = to_jpegs(path, replace(PICTURE, keep_every=2), quality=3)
    assert finished.times == (0, 80_000, 160_000, 240_000, 320_000)


def test_a_full_disk_for_temporary_files_is_no_fault_of_the_video(tmp_path, monkeypatch):
    path = write_video(tmp_path / "x.mp4", frames=60)
    with small_disk(tmp_path / "disk", 1) as disk:
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        assert len(to_jpegs(path, PICTURE, quality=3).times) == 60
        assert to_mp4(path, PICTURE, rate=Fraction(25), crf=21, group=8).status == 0
        # Where the system has no files in memory.
        monkeypatch.delattr(os, "memfd_create", raising=False)
        with pytest.raises(RunError, match=r"the disk is full: .*TMPDIR"):
            to_mp4(path, PICTURE, rate=Fraction(25), crf=0, group=8)
