"""Every way in which inputs go wrong: named with its reason, kept out of training, and no good video with it."""

import os
import subprocess
import threading

import pytest

from data_process import ffmpeg, probe
from data_process.build import build
from data_process.build_config import BuildConfig
from data_process.errors import InputError
from data_process.quarantine import read_json_lines
from data_process.shards import ShardSet
from data_process.source import SourceRequest
from data_process.transcode_config import TranscodeConfig
from data_process.verify import VerifyConfig, verify
from tests.sample_videos import write_video

GOOD = [
    "plain.mp4",
    "-y.mp4",
    "a b.mp4",
    "[x] 'y' \"z\" %d.mp4",
    "c: d?.mp4",
    "é日本.mp4",
    "line\u2028end.mp4",
    "$(ls).mp4",
]
BAD = {
    "cut index.mp4": "unreadable",
    "cut short.mp4": "truncated",
    "empty.mp4": "empty_file",
    "sound.mp4": "no_video_stream",
    "encrypted.mp4": "encrypted",
    "hung.mp4": "timeout",
    "one frame.mp4": "too_short",
    "text.mp4": "unreadable",
    "crash.mp4": "decoder_crash",
    "crash at header.mp4": "decoder_crash",
    "folder.mp4": "unreadable",
}


def run_ffmpeg(*words):
    subprocess.run([ffmpeg.executable(), "-nostdin", "-y", "-v", "error", *map(str, words)], check=True)


def make_zoo(root):
    for number, name in enumerate([*GOOD, "crash.mp4", "crash at header.mp4"]):
        write_video(root / name, seed=number, frames=20)
    source = write_video(root / "source.mp4", frames=60)
    content = source.read_bytes()
    (root / "cut index.mp4").write_bytes(content[: len(content) // 2])
    front = write_video(root / "front.mp4", frames=60, after=("-movflags", "+faststart")).read_bytes()
    (root / "cut short.mp4").write_bytes(front[: len(front) // 3])
    (root / "two thirds.mp4").write_bytes(front[: 5 * len(front) // 6])
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("this is no video")
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", root / "sound.mp4")
    key = ["-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb"]
    run_ffmpeg("-i", source, "-c", "copy", *key, "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8",
               root / "encrypted.mp4")  # fmt: skip
    write_video(root / "one frame.mp4", frames=1)
    os.mkfifo(root / "hung.mp4")
    (root / "folder.mp4").mkdir()
    names = [*GOOD, *BAD, "two thirds.mp4"]
    (root / "list.csv").write_text(
        "".join('"' + name.replace('"', '""') + '",run\n' for name in names), encoding="utf-8"
    )
    return root / "list.csv"


@pytest.fixture
def impatient(monkeypatch, tmp_path):
    """Limits of a moment for what hangs, and an ffmpeg that crashes on one file."""
    program = tmp_path / "ffmpeg"
    real = ffmpeg.executable()
    program.write_text(
        '#!/bin/bash\ncase "$*" in *crash.mp4*stats_enc_pre*|*hide_banner*header.mp4*) kill -SEGV $$ ;; esac\n'
        f'exec {real} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("INTRAVID_FFMPEG", str(program))
    monkeypatch.setattr(probe, "PROBE_LIMIT_S", 0.5)
    ffmpeg.executable.cache_clear()
    ffmpeg.version.cache_clear()
    yield
    monkeypatch.undo()
    ffmpeg.executable.cache_clear()
    ffmpeg.version.cache_clear()


@pytest.mark.parametrize("codec", ["jpeg", "mp4"])
def test_every_fault_is_listed_with_its_reason_and_every_good_video_stored(tmp_path, impatient, codec):
    if codec == "mp4":
        pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")
    source = make_zoo(tmp_path / "zoo")
    holder = threading.Thread(target=hold, args=(tmp_path / "zoo" / "hung.mp4",), daemon=True)
    holder.start()
    config = BuildConfig(transcode=TranscodeConfig(short_side=48, codec=codec), jobs=4, max_bad=1.0)
    summary = build("list", SourceRequest(source), tmp_path / "out", config)
    rows = read_json_lines(tmp_path / "out" / "quarantine.jsonl")
    left_out = {f"{row['id']}.mp4": row["code"] for row in rows if not row["stored"]}
    assert left_out == BAD
    assert all(row["detail"] for row in rows)
    assert summary.num_quarantined == len(BAD)
    shards = ShardSet(tmp_path / "out")
    assert {f"{record.id}.mp4" for record in shards} == {*GOOD, "two thirds.mp4"}
    assert {record.id for index, record in enumerate(shards) if shards.is_degraded(index)} == {"two thirds"}
    assert {record.num_frames for record in shards if record.id != "two thirds"} == {20}
    assert verify(tmp_path / "out", VerifyConfig(level=4, every=1)) == []


def hold(path):
    """A writer that never writes."""
    with path.open("wb"):
        threading.Event().wait(30)


def test_strict_builds_leave_degraded_videos_out_too(tmp_path):
    front = write_video(tmp_path / "in" / "front.mp4", frames=60, after=("-movflags", "+faststart"))
    (tmp_path / "in" / "cut.mp4").write_bytes(front.read_bytes()[: 5 * front.stat().st_size // 6])
    config = BuildConfig(transcode=TranscodeConfig(short_side=48, strict=True), max_bad=1.0)
    assert dict(build("folder", SourceRequest(tmp_path / "in"), tmp_path / "out", config).outcomes) == {
        "ok": 1, "degraded": 1,
    }  # fmt: skip
    assert [record.id for record in ShardSet(tmp_path / "out")] == ["front"]


def test_wrong_labels_missing_files_and_double_ids_stop_before_anything_is_written(tmp_path):
    write_video(tmp_path / "in" / "run" / "x.mp4")
    (tmp_path / "in" / "list.txt").write_text("run/x.mp4 run\nrun/gone.mp4 run\n")
    for request, why in (
        (SourceRequest(tmp_path / "in", classes=("jump",)), "1 classes are not in the class list"),
        (SourceRequest(tmp_path / "in" / "list.txt"), "1 of 2 listed files do not exist"),
    ):
        with pytest.raises(InputError, match=why):
            build("list" if request.root.is_file() else "folder", request, tmp_path / "out", BuildConfig())
    assert not (tmp_path / "out").exists()
