"""Builds that are killed, ended or shared out go on to the same bytes and leave nothing behind."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_process.verify import VerifyConfig, verify
from tests.sample_videos import write_video

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("INTRAVID_KILLS", "6"))
VIDEOS = 200 if KILLS > 10 else 60
OPTIONS = ["--short-side", "48", "--videos-per-shard", "8", "--max-bad", "1", "--min-frames", "8"]
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see who is left")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Many small videos, all of other content (a free box at the end of the file makes them differ), one broken."""
    root = tmp_path_factory.mktemp("many")
    shapes = [write_video(root / f"shape{one}.mp4", seed=one, frames=12 + one) for one in range(4)]
    for number in range(VIDEOS):
        path = root / "ab"[number % 2] / f"{number:03d}.mp4"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(shapes[number % 4], path)
    for shape in shapes:
        shape.unlink()
    (root / "a" / "broken.mp4").write_bytes(b"no video")
    return root


def words(source, out, *more):
    return [sys.executable, "-m", "launch", "build", str(source), str(out), *OPTIONS, *more]


def shards(out):
    return {path.name: path.read_bytes() for path in out.glob("*.lmdb")}


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    start = time.monotonic()
    subprocess.run(words(source, out), cwd=ROOT, check=True, capture_output=True)
    return shards(out), time.monotonic() - start


def children_of_build(marker):
    """Processes whose command line names the source folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(marker).encode() in line and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def nobody_left(marker):
    for _ in range(100):
        if not children_of_build(marker):
            return True
        time.sleep(0.05)
    return False


def test_kills_at_any_moment_and_changing_shares_give_the_same_bytes(source, tmp_path, undisturbed):
    expected, whole = undisturbed
    rng = random.Random(0)
    out = tmp_path / "out"
    for number in range(KILLS):
        tasks = rng.choice([1, 1, 2, 3])
        more = ["--jobs", str(rng.choice([1, 2, 4])), "--processes", str(rng.choice([1, 2, 3]))]
        more += ["--task", str(rng.randrange(tasks)), "--tasks", str(tasks)]
        started = subprocess.Popen(
            words(source, out, *more), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.05, 0.8) * whole)
        started.kill()
        started.wait()
        assert nobody_left(source), f"after kill {number} somebody goes on"
        for name, data in shards(out).items():
            assert data == expected[name], f"after kill {number} {name} is published, but other"
        if len(shards(out)) == len(expected):
            shutil.rmtree(out)  # it was too quick: begin again
    subprocess.run(words(source, out, "--processes", "2"), cwd=ROOT, check=True, capture_output=True)
    assert shards(out) == expected
    assert not [path.name for path in out.iterdir() if ".tmp" in path.name]
    assert verify(out, VerifyConfig(level=4)) == []


@pytest.mark.parametrize("more", [["--processes", "1"], ["--processes", "3"]])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_build_that_is_asked_to_stop_ends_soon_and_cleanly(source, tmp_path, undisturbed, more, number):
    out = tmp_path / "out"
    started = subprocess.Popen(
        words(source, out, *more), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 30
    while not list(out.glob("shard-*.tmp.*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    started.send_signal(number)
    asked = time.monotonic()
    assert started.wait(timeout=30) in (130, 143)
    assert time.monotonic() - asked < 10
    assert nobody_left(source)
    assert not list(out.glob("*.tmp.*")), "nothing unfinished is left"
    subprocess.run(words(source, out), cwd=ROOT, check=True, capture_output=True)
    assert shards(out) == undisturbed[0]


def test_processes_give_the_same_bytes_and_tell_json(source, tmp_path, undisturbed):
    ran = subprocess.run(
        words(source, tmp_path / "out", "--processes", "3", "--jobs", "4", "--log-json"),
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert shards(tmp_path / "out") == undisturbed[0]
    told = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    assert sorted(one["shard"] for one in told if one["event"] == "shard") == list(range(len(undisturbed[0])))
    end = told[-1]
    assert (end["event"], end["videos"], end["bad"], end["complete"]) == ("end", VIDEOS + 1, 1, True)
    assert end["outcomes"] == {"ok": VIDEOS, "unreadable": 1}
    for one in told[:-1]:
        assert {"videos", "stored", "bad", "bytes", "videos_per_s", "source_s", "cpu_s", "left_s"} <= set(one)


def test_a_writing_process_that_dies_is_told(source, tmp_path, undisturbed):
    out = tmp_path / "out"
    started = subprocess.Popen(
        words(source, out, "--processes", "2"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    workers = []
    while len(workers) < 2 and time.monotonic() < deadline:
        task = Path(f"/proc/{started.pid}/task/{started.pid}/children")
        workers = [int(one) for one in task.read_text().split()] if task.exists() else []
    os.kill(workers[0], signal.SIGKILL)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 1
    assert "a process of the build ended by signal 9; run the same command again" in errors
    assert nobody_left(source)


def test_tasks_that_build_the_same_shards_at_once_do_no_harm(source, tmp_path, undisturbed):
    out = tmp_path / "out"
    both = [
        subprocess.Popen(words(source, out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [(one.communicate(timeout=120)[1], one.returncode) for one in both]
    assert [status for _, status in ends] == [0, 0], ends
    assert shards(out) == undisturbed[0]
