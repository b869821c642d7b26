"""Builds that are killed at any moment go on to the same bytes and leave nobody and nothing behind."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from data_process.verify import VerifyConfig, verify
from tests.builds import (
    contents,
    finished,
    is_at_work,
    is_nobody_left,
    left_of,
    started,
    wait_for,
    wait_until_at_work,
    write_source,
)  # fmt: skip

KILLS = int(os.environ.get("INTRAVID_KILLS", "8"))
VIDEOS = 200
pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc to see who is left")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("videos"), VIDEOS)


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    """What a build leaves, and the seconds of its work."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    process = started(source, out)
    wait_until_at_work(process, out)
    begin = time.monotonic()
    assert process.wait(timeout=120) == 0
    return contents(out), time.monotonic() - begin


def changed_settings(rng):
    """Jobs, processes and a share of the work, drawn anew for every start."""
    tasks = rng.choice([1, 1, 2, 3])
    words = ["--jobs", rng.choice([1, 2, 4]), "--processes", rng.choice([1, 2, 3])]
    return [*words, "--task", rng.randrange(tasks), "--tasks", tasks]


@pytest.mark.slow
def test_kills_at_any_moment_and_changing_shares_give_the_same_bytes(source, tmp_path, undisturbed):
    expected, work_s = undisturbed
    names = [name for name in expected if name.startswith("shard-")]
    rng, out, kills, at_work, wholes = random.Random(KILLS), tmp_path / "out", 0, 0, 0
    while kills < KILLS:
        process = started(source, out, *changed_settings(rng))
        if kills % 5 != 4:  # else at any moment of its start
            wait_until_at_work(process, out)
        time.sleep(rng.uniform(0.0, 0.6) * work_s)
        at_work += process.poll() is None and is_at_work(out)
        kills += process.poll() is None
        process.kill()
        process.wait()
        assert is_nobody_left(source), f"after kill {kills} somebody goes on: {left_of(source)}"
        found = contents(out) if out.exists() else {}
        for name in found.keys() & {*names, "plan.json", "manifest.jsonl"}:
            assert found[name] == expected[name], f"after kill {kills} {name} is published, but other"
        if found.keys() >= set(names):
            wholes += 1
            finished(source, out, "--processes", rng.choice([1, 2]))
            assert contents(out) == expected
            shutil.rmtree(out)
    finished(source, out, "--processes", "2")
    assert contents(out) == expected, "the same bytes, and nothing else is there"
    assert verify(out, VerifyConfig(level=4)) == []
    print(f"{kills} kills, {at_work} of them while a shard was written; {wholes + 1} whole builds compared")
    assert at_work >= KILLS // 3


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_ffmpeg_that_waits_for_ever_ends_with_its_build(tmp_path, processes, number):
    """It neither reads nor writes, so that no broken pipe ends it."""
    (tmp_path / "in").mkdir()
    names = [f"hung {one}.mp4" for one in range(2)]
    for name in names:
        os.mkfifo(tmp_path / "in" / name)
    (tmp_path / "in" / "list.csv").write_text("".join(f"{name},x\n" for name in names))
    more = ["--dataset", "list", "--processes", processes, "--jobs", 2, "--videos-per-shard", 1]
    process = started(tmp_path / "in" / "list.csv", tmp_path / "out", *more)
    ffmpegs = tmp_path / "in" / "hung"
    wait_for(lambda: len(left_of(ffmpegs)) == 2, "both are looked at")
    time.sleep(0.2)  # beyond the start of the program
    process.send_signal(number)
    asked = time.monotonic()
    assert process.wait(timeout=30) == (-9 if number == signal.SIGKILL else 143)
    assert time.monotonic() - asked < 5
    assert is_nobody_left(ffmpegs)
    assert is_nobody_left(tmp_path / "in")
