import os
import subprocess
from contextlib import contextmanager

import pytest

from data_process.outcome import Quarantined
from data_process.source import SourceVideo
from data_process.source_file import describe_file, is_encrypted, read_problem
from data_process.transcode import transcode
from data_process.transcode_config import TranscodeConfig
from tests.sample_videos import write_video

NOBODY = 65534


@contextmanager
def ordinary_user():
    """Root may read everything: until the end of the block, be somebody who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def outcome_of(path):
    return transcode(SourceVideo(path, "x"), 0, TranscodeConfig(short_side=64))


def test_a_file_without_permission_is_a_read_error_that_is_tried_again(tmp_path):
    path = write_video(tmp_path / "x.mp4")
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    with ordinary_user():
        outcome = outcome_of(path)
    assert isinstance(outcome, Quarantined)
    assert (outcome.code, outcome.attempts) == ("read_error", 3)
    assert "Permission denied" in outcome.detail


def test_a_folder_without_permission_stops_no_build(tmp_path):
    path = write_video(tmp_path / "locked" / "x.mp4")
    path.parent.chmod(0)
    try:
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
        with ordinary_user():
            outcome = outcome_of(path)
            (row,) = outcome.report_rows(SourceVideo(path, "x"))
    finally:
        path.parent.chmod(0o755)
    assert (row["code"], row["bytes"], row["mtime"]) == ("read_error", None, None)


def test_what_the_disk_does_not_give_is_no_damage_of_the_video(tmp_path, monkeypatch):
    path = write_video(tmp_path / "x.mp4", frames=60, after=("-movflags", "+faststart"))
    path.write_bytes(path.read_bytes()[: 5 * path.stat().st_size // 6])
    assert outcome_of(path).header.state == "degraded"
    monkeypatch.setattr("data_process.judgement.read_problem", lambda path: "[Errno 5] Input/output error")
    outcome = outcome_of(path)
    assert (outcome.code, outcome.attempts) == ("read_error", 3)
    assert outcome.frames < outcome.expected == 60


def test_good_files_are_not_read_again(tmp_path, monkeypatch):
    path = write_video(tmp_path / "x.mp4")
    monkeypatch.setattr("data_process.judgement.read_problem", lambda path: pytest.fail("it was read again"))
    assert outcome_of(path).header.state == "ok"


def test_files_are_read_to_their_end_and_pipes_are_left_alone(tmp_path):
    (tmp_path / "x").write_bytes(bytes(3 << 20))
    os.mkfifo(tmp_path / "pipe")
    assert read_problem(tmp_path / "x") == ""
    assert read_problem(tmp_path / "pipe") == ""
    assert not is_encrypted(tmp_path / "pipe")
    assert describe_file(tmp_path / "x")["bytes"] == 3 << 20
    assert describe_file(tmp_path / "gone") == {"bytes": None, "mtime": None}


def test_a_device_that_fails_is_named(tmp_path):
    # The memory of a process has no first page: reading it is an input/output error, as of a broken disk.
    (tmp_path / "x").symlink_to(f"/proc/{os.getpid()}/mem")
    try:
        (tmp_path / "x").open("rb").close()
    except OSError as error:
        pytest.skip(f"/proc is closed here: {error}")
    assert "Input/output error" in read_problem(tmp_path / "x")


@pytest.mark.parametrize("place", ["front", "end"])
def test_encryption_is_seen_wherever_the_index_stands(tmp_path, place):
    from data_process import ffmpeg

    path = write_video(tmp_path / "plain.mp4", frames=20)
    words = [ffmpeg.executable(), "-v", "error", "-i", str(path), "-c", "copy", "-encryption_scheme", "cenc-aes-ctr"]
    words += ["-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb", "-encryption_kid", "0" * 32]
    if place == "front":
        words += ["-movflags", "+faststart"]
    subprocess.run([*words, str(tmp_path / "locked.mp4")], check=True)
    assert is_encrypted(tmp_path / "locked.mp4")
    assert not is_encrypted(path)
