"""Builds of several processes and tasks: the same bytes, one log, and an end for every way to end."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from data_process import build_workers
from data_process.build import build
from data_process.build_config import BuildConfig
from data_process.errors import RunError
from data_process.source import SourceRequest
from data_process.transcode_config import TranscodeConfig
from tests.builds import contents, finished, is_nobody_left, started, wait_for, wait_until_at_work, write_source
from tests.full_disk import small_disk

VIDEOS = 60
pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc to see who is left")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("videos"), VIDEOS)


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    finished(source, out)
    return contents(out)


def told_by(errors):
    """The JSON lines of a build; there must be no others."""
    return [json.loads(line) for line in errors.splitlines()]


def test_processes_give_the_same_bytes_and_one_log(source, tmp_path, undisturbed):
    ran = finished(source, tmp_path / "out", "--processes", 3, "--jobs", 4, "--log-json")
    assert contents(tmp_path / "out") == undisturbed
    start, *middle, end = told_by(ran.stderr)
    assert (start["event"], start["task"], start["tasks"], start["shards"]) == ("start", 0, 1, 8)
    assert sorted(one["shard"] for one in middle) == list(range(8))
    assert sum(one["bad"] for one in middle) == 2
    pace = {"seconds", "videos_per_s", "source_s", "cpu_s", "source_s_per_core_s", "left_s", "bytes"}
    for one in (*middle, end):
        assert pace <= set(one)
    assert (end["event"], end["status"], end["videos"], end["left_s"]) == ("end", "ok", VIDEOS + 2, 0)
    assert (end["outcomes"], end["complete"]) == ({"ok": VIDEOS, "unreadable": 2}, True)
    stored = sum(len(data) for name, data in undisturbed.items() if name.endswith(".lmdb"))
    assert 0.5 * stored < end["bytes"] < stored
    assert end["source_s"] == pytest.approx(VIDEOS * 19 / 25, rel=0.05)  # 16 to 22 frames at 25 a second
    assert end["source_s_per_core_s"] == pytest.approx(end["source_s"] / end["cpu_s"], rel=0.01)


def test_a_kept_build_tells_what_it_kept(source, tmp_path, undisturbed):
    finished(source, tmp_path / "out")
    start, end = told_by(finished(source, tmp_path / "out", "--log-json").stderr)
    assert (start["kept"], end["shards_kept"], end["shards_built"]) == (8, 8, 0)
    assert (end["outcomes"], end["bytes"], end["left_s"]) == ({"ok": VIDEOS, "unreadable": 2}, 0, None)


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_build_that_is_asked_to_stop_ends_soon_and_cleanly(source, tmp_path, undisturbed, processes, number):
    out = tmp_path / "out"
    process = started(source, out, "--processes", processes, "--log-json", stderr=subprocess.PIPE, text=True)
    wait_until_at_work(process, out)
    process.send_signal(number)
    asked = time.monotonic()
    _, errors = process.communicate(timeout=30)
    print(f"stopped after {time.monotonic() - asked:.2f} s")
    assert process.returncode == 128 + number
    assert time.monotonic() - asked < 5
    assert is_nobody_left(source)
    assert not list(out.glob("*.tmp.*")), "nothing unfinished is left"
    ends = [one for line in errors.splitlines() if line.startswith("{") and (one := json.loads(line))["event"] == "end"]
    assert [one["status"] for one in ends] == ["stopped"]
    finished(source, out)
    assert contents(out) == undisturbed


def test_hanging_up_does_not_stop_what_was_told_to_go_on(source, tmp_path, undisturbed):
    out = tmp_path / "out"
    process = started(source, out, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_until_at_work(process, out)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0
    assert contents(out) == undisturbed


@pytest.mark.parametrize(("number", "how"), [(signal.SIGKILL, "by signal 9"), (signal.SIGTERM, "with status 143")])
def test_a_writing_process_that_ends_before_its_work_is_told(source, tmp_path, undisturbed, number, how):
    out = tmp_path / "out"
    process = started(source, out, "--processes", 2, "--jobs", 2, stderr=subprocess.PIPE, text=True)
    wait_until_at_work(process, out)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: len(children.read_text().split()) == 2, "both have started")
    os.kill(int(children.read_text().split()[0]), number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"a process of the build ended {how}; run the same command again" in errors
    assert is_nobody_left(source)
    assert not list(out.glob("*.tmp.*"))
    finished(source, out)
    assert contents(out) == undisturbed


def test_tasks_that_build_the_same_shards_at_once_do_no_harm(source, tmp_path, undisturbed):
    both = [started(source, tmp_path / "out") for _ in range(2)]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    assert contents(tmp_path / "out") == undisturbed


def test_the_last_of_tasks_that_end_together_writes_the_index(source, tmp_path, undisturbed):
    tasks = [started(source, tmp_path / "out", "--jobs", 1, "--task", one, "--tasks", 4) for one in range(4)]
    assert [one.wait(timeout=120) for one in tasks] == [0] * 4
    assert contents(tmp_path / "out") == undisturbed


def config_of(**changes):
    return BuildConfig(transcode=TranscodeConfig(short_side=48), videos_per_shard=8, jobs=2, max_bad=1.0, **changes)


def test_a_disk_that_fills_up_ends_all_processes_and_a_second_start_goes_on(source, tmp_path, undisturbed):
    with small_disk(tmp_path / "disk", 4) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(3_000_000))
        with pytest.raises(RunError, match=r"the disk is full: .*run the same command"):
            build("folder", SourceRequest(source), disk / "out", config_of(processes=2))
        assert not list((disk / "out").glob("*.tmp.*"))
        filler.unlink()
        finished(source, disk / "out")
        assert contents(disk / "out") == undisturbed


def test_a_process_that_nobody_hears_any_more_does_not_hold_up_the_end(source, tmp_path, monkeypatch):
    """What it tells is longer than a pipe holds, so that it waits for a listener that has gone."""

    def tells_much(out, plan, numbers, config, jobs, told):
        while True:
            told("x" * 10_000_000)

    class Deaf(Exception):
        pass

    def deaf(event):
        raise Deaf

    monkeypatch.setattr(build_workers, "build_in_order", tells_much)
    begin = time.monotonic()
    writers = build_workers.Writers(tmp_path, None, range(3), TranscodeConfig(), jobs=3, processes=3)
    with pytest.raises(Deaf), writers:
        writers.listen(deaf)
    assert time.monotonic() - begin < 5
