import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_process import build_shards as build_module
from data_process.build import build
from data_process.build_config import BuildConfig
from data_process.errors import InputError, RunError
from data_process.index import read_index
from data_process.outcome import Quarantined
from data_process.quarantine import read_json_lines
from data_process.shards import ShardSet
from data_process.source import SourceRequest
from data_process.transcode_config import TranscodeConfig
from data_process.verify import VerifyConfig, move_damaged, verify
from tests.full_disk import small_disk
from tests.sample_videos import write_video

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = TranscodeConfig(short_side=48)
NUM_VIDEOS, PER_SHARD = 11, 3


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Eleven videos in two classes, one of them broken, one too short."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(NUM_VIDEOS - 2):
        write_video(root / "ab"[number % 2] / f"{number}.mp4", seed=number, frames=18 + number)
    write_video(root / "a" / "short.mp4", frames=5)
    (root / "b" / "broken.mp4").write_bytes(b"no video")
    return root


def config_of(**changes):
    return BuildConfig(**{"transcode": SETTINGS, "videos_per_shard": PER_SHARD, "jobs": 2, "max_bad": 1.0, **changes})


def run(source, out, **changes):
    return build("folder", SourceRequest(source), out, config_of(**changes))


def content(out):
    """Everything but the reports, which tell times."""
    return {
        path.name: path.read_bytes()
        for path in out.iterdir()
        if path.is_file() and not path.name.startswith("quarantine")
    }


@pytest.fixture(scope="module")
def unbroken(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "out"
    run(source, out)
    return content(out)


def test_every_video_is_stored_or_reported_with_its_reason(source, tmp_path):
    summary = run(source, tmp_path / "out")
    shards = ShardSet(tmp_path / "out")
    assert {record.id: record.num_frames for record in shards} == {
        f"{'ab'[number % 2]}/{number}": 18 + number for number in range(NUM_VIDEOS - 2)
    }
    assert shards.classes == ("a", "b")
    rows = read_json_lines(tmp_path / "out" / "quarantine.jsonl")
    assert {row["id"]: (row["code"], row["stored"]) for row in rows if row["code"] != "small"} == {
        "a/short": ("too_short", False),
        "b/broken": ("unreadable", False),
    }
    assert dict(summary.outcomes) == {"ok": 9, "too_short": 1, "unreadable": 1}
    assert (summary.shards_built, summary.complete, summary.num_quarantined) == (4, True, 2)
    assert verify(tmp_path / "out", VerifyConfig(level=3)) == []


@pytest.mark.parametrize("jobs", [1, 4])
def test_the_number_of_jobs_changes_no_byte(source, tmp_path, unbroken, jobs):
    run(source, tmp_path / "out", jobs=jobs)
    assert content(tmp_path / "out") == unbroken


def test_tasks_in_any_order_change_no_byte(source, tmp_path, unbroken):
    assert not run(source, tmp_path / "out", task=2, tasks=3).complete
    assert not (tmp_path / "out" / "index.json").exists()
    assert not run(source, tmp_path / "out", task=0, tasks=3).complete
    assert run(source, tmp_path / "out", task=1, tasks=3).complete
    assert content(tmp_path / "out") == unbroken


def test_a_second_start_keeps_what_is_there_and_counts_it(source, tmp_path, unbroken):
    first = run(source, tmp_path / "out")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.lmdb")}
    second = run(source, tmp_path / "out")
    assert (second.shards_built, second.shards_kept) == (0, 4)
    assert (second.outcomes, second.remarks) == (first.outcomes, first.remarks)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.lmdb")} == times
    assert content(tmp_path / "out") == unbroken


OPTIONS = ["--short-side", "48", "--videos-per-shard", "3", "--max-bad", "1"]


@pytest.mark.parametrize(("jobs", "fatal"), [(1, 7), (2, 8), (4, 11)])
def test_a_build_killed_in_the_middle_goes_on_to_the_same_bytes(source, tmp_path, unbroken, jobs, fatal):
    # Before that video begins the first shard was published: at most jobs + 2 videos wait for the writer.
    out = tmp_path / "out"
    words = ["--jobs", str(jobs), *OPTIONS, str(source), str(out)]
    killed = subprocess.run(
        [sys.executable, "-m", "tests.killed_build", str(fatal), *words], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    assert killed.returncode == -signal.SIGKILL
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.lmdb")}
    assert 0 < len(kept) < 4
    again = subprocess.run(
        [sys.executable, "-m", "launch", "build", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"{len(kept)} kept" in again.stdout
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    assert content(out) == unbroken  # and so no temporary file is left


def test_a_removed_or_damaged_shard_alone_is_rebuilt(source, tmp_path, unbroken):
    out = tmp_path / "out"
    run(source, out)
    path = out / "shard-000001.lmdb"
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match=r"shard-000001.lmdb is no intact shard .*cut short.*only it is rebuilt"):
        run(source, out)
    path.unlink()
    assert run(source, out).shards_built == 1
    assert content(out) == unbroken


def test_a_shard_of_another_build_stops(source, tmp_path):
    out = tmp_path / "out"
    run(source, tmp_path / "other", transcode=TranscodeConfig(short_side=32))
    run(source, out)
    (out / "shard-000000.lmdb").write_bytes((tmp_path / "other" / "shard-000000.lmdb").read_bytes())
    with pytest.raises(InputError, match=r"shard-000000.lmdb comes from another build"):
        run(source, out)


def test_other_settings_do_not_touch_what_is_there(source, tmp_path, unbroken):
    run(source, tmp_path / "out")
    with pytest.raises(InputError, match="short_side was 48, now 32"):
        run(source, tmp_path / "out", transcode=TranscodeConfig(short_side=32))
    assert content(tmp_path / "out") == unbroken


def test_too_many_videos_left_out_fail_after_the_rest_is_stored(source, tmp_path, unbroken):
    with pytest.raises(RunError, match=r"2 of 11 videos were left out, more than --max-bad 0.1 .*quarantine-shard"):
        run(source, tmp_path / "out", max_bad=0.1)
    assert content(tmp_path / "out") == unbroken


def test_a_source_of_broken_videos_alone_gives_an_empty_dataset(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.mp4").write_bytes(b"no video")
    summary = run(tmp_path / "in", tmp_path / "out")
    assert dict(summary.outcomes) == {"unreadable": 1}
    assert len(ShardSet(tmp_path / "out")) == 0


def test_a_full_disk_stops_with_what_to_do_and_a_second_start_goes_on(source, tmp_path, unbroken):
    with small_disk(tmp_path / "disk", 1) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(600_000))
        with pytest.raises(RunError, match=r"the disk is full: .*run the same command"):
            run(source, disk / "out")
        assert not list((disk / "out").glob("*.tmp.*"))
        assert 0 < len(list((disk / "out").glob("shard-*.lmdb"))) < 4
        filler.unlink()
        assert run(source, disk / "out").shards_kept > 0
        assert content(disk / "out") == unbroken


def test_files_of_a_killed_build_are_swept(source, tmp_path, unbroken):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"shard-000001.lmdb.tmp.{socket.gethostname()}.{ended.pid}").write_bytes(bytes(100))
    run(source, tmp_path / "out")
    assert content(tmp_path / "out") == unbroken


def test_videos_lost_to_the_moment_are_stored_by_a_retry(source, tmp_path, unbroken, monkeypatch):
    out, real = tmp_path / "out", build_module.transcode

    def slow(video, label, config):
        return Quarantined("timeout", "no end") if video.id == "a/4" else real(video, label, config)

    monkeypatch.setattr(build_module, "transcode", slow)
    assert run(source, out).outcomes["timeout"] == 1
    monkeypatch.undo()
    assert run(source, out).shards_built == 0  # without being asked, nothing is rebuilt
    assert run(source, out, retry_quarantined=True).shards_built == 1
    assert content(out) == unbroken


def test_a_task_retries_its_own_shards_only(source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(build_module, "transcode", lambda *args: Quarantined("timeout", "no end"))
    run(source, out)
    monkeypatch.undo()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.lmdb")}
    assert run(source, out, retry_quarantined=True, task=1, tasks=2).shards_built == 2
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.lmdb")}
    assert {name for name in before if after.get(name) == before[name]} == {"shard-000000.lmdb", "shard-000002.lmdb"}


def test_memory_is_bounded_while_one_video_takes_long(source, tmp_path, monkeypatch):
    started, real = [], build_module.transcode

    def watched(video, label, config):
        started.append(video.id)
        if len(started) == 1:
            time.sleep(0.5)
            assert len(started) <= 2 + 2  # jobs + 2 in work or waiting
        return real(video, label, config)

    monkeypatch.setattr(build_module, "transcode", watched)
    run(source, tmp_path / "out")
    assert len(started) == NUM_VIDEOS


def test_a_failure_of_our_own_stops_at_once_and_leaves_no_shard(source, tmp_path, monkeypatch):
    calls = []

    def fails(video, label, config):
        calls.append(video)
        raise ZeroDivisionError

    monkeypatch.setattr(build_module, "transcode", fails)
    with pytest.raises(ZeroDivisionError):
        run(source, tmp_path / "out")
    assert len(calls) <= 4
    assert not list((tmp_path / "out").glob("shard-*"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"task": 3, "tasks": 3}, "--task 3 --tasks 3"), ({"task": -1}, "--task -1"), ({"tasks": 0}, "--tasks 0"),
        ({"videos_per_shard": 0}, "--videos-per-shard 0"), ({"jobs": -1}, "--jobs -1"),
        ({"max_bad": 2.0}, "--max-bad 2.0"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_wrong_input(changes, named):
    with pytest.raises(InputError, match=named):
        config_of(**changes)


def test_an_output_path_that_is_a_file_is_wrong_input(source, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="cannot be written to"):
        run(source, tmp_path / "out")


def test_the_report_tells_what_is_needed_to_find_the_cause(source, tmp_path):
    run(source, tmp_path / "out")
    row = next(row for row in read_json_lines(tmp_path / "out" / "quarantine.jsonl") if row["id"] == "b/broken")
    assert (row["stored"], row["bytes"], row["attempts"]) == (False, 8, 1)
    assert "Invalid data" in row["detail"]
    assert row["ffmpeg"].startswith("ffmpeg version")
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert (plan["videos"], plan["shards"], plan["ffmpeg"]) == (11, 4, row["ffmpeg"])
    assert len(read_json_lines(tmp_path / "out" / "manifest.jsonl")) == 11
    assert len(read_index(tmp_path / "out").rows) == 9


def test_a_damaged_shard_alone_is_built_again(source, tmp_path, unbroken):
    out = tmp_path / "out"
    run(source, out)
    shard = out / "shard-000002.lmdb"
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.lmdb") if path != shard}
    moved = move_damaged(out, verify(out, VerifyConfig(level=3)))
    assert out / "damaged" / shard.name in moved
    summary = run(source, out)
    assert (summary.shards_built, summary.shards_kept) == (1, 3)
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.lmdb") if path != shard} == before
    assert content(out) == unbroken
