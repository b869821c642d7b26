"""Builds in processes of their own, who is left of them, and what they left on the disk."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.sample_videos import write_many

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ["--short-side", "48", "--videos-per-shard", "8", "--max-bad", "1"]


def write_source(root, count):
    """Small videos in two classes, all of other content, two of them broken."""
    for number, path in enumerate(write_many(root, count)):
        (root / "ab"[number % 2]).mkdir(exist_ok=True)
        path.rename(root / "ab"[number % 2] / path.name)
    (root / "a" / "broken.mp4").write_bytes(b"no video")
    (root / "b" / "cut.mp4").write_bytes((root / "a" / "000.mp4").read_bytes()[:2000])
    return root


def words(source, out, *more):
    """The command that builds one from the other."""
    return [sys.executable, "-m", "launch", "build", str(source), str(out), *OPTIONS, *map(str, more)]


def started(source, out, *more, **how):
    """The command in a process of its own, unheard where nothing else is said."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(words(source, out, *more), cwd=ROOT, **{**quiet, **how})


def finished(source, out, *more):
    """The command to its end, which must be a good one."""
    return subprocess.run(words(source, out, *more), cwd=ROOT, check=True, capture_output=True, text=True)


def wait_for(condition, why, *, limit_s=60.0):
    """Until something is so."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.005)


def is_at_work(out):
    """Whether a shard is being written."""
    return any(out.glob("shard-*.tmp.*"))


def wait_until_at_work(process, out):
    """Until a process writes its first shard, or has ended."""
    wait_for(lambda: is_at_work(out) or process.poll() is not None, "it never began to write")


def contents(out):
    """Bytes of every file that is there, temporaries too; of the reports, which tell times, only who is in them."""
    files = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    return {name: reported(data) if name.startswith("quarantine") else data for name, data in files.items()}


def reported(data):
    import json

    rows = [json.loads(line) for line in data.decode().split("\n") if line]
    return [(row["id"], row["code"], row["stored"]) for row in rows]


def left_of(marker):
    """Processes whose command line names a folder, but for this one and those that ended."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(marker).encode() in line and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def is_nobody_left(marker, *, within_s=5.0):
    """Whether all of them have ended within some seconds."""
    deadline = time.monotonic() + within_s
    while left_of(marker):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
