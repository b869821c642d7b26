"""A million videos: what a process needs of its own, and what it shares."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.index import write_datasets

ROOT = Path(__file__).resolve().parents[2]
VIDEOS = 1_000_000

READER = """
import json, sys
from pathlib import Path

import numpy as np

from benchmarks.index import video_id
from data_process.data_config import DataConfig


def used():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


import data_process.lmdb_pages, hashlib, zlib
settings, step = json.loads(sys.argv[1]), int(sys.argv[2])
before = used()
videos = DataConfig(**settings).open()
for index in np.random.default_rng(0).integers(0, len(videos), 2000).tolist():
    record = videos[index]
    assert record.id == video_id(step * index)
    assert videos.classes[record.label] == record.id.split("/")[0]
assert videos.index_of(video_id(400008)) == 400008 // step
opened = used()
labels, digest = videos.labels, videos.digest
print(json.dumps({"videos": len(videos), "before": before, "opened": opened, "after": used()}), flush=True)
sys.stdin.readline()
print(json.dumps(used()), flush=True)
sys.stdin.readline()
"""

KINDS = {"one root": (1, 10), "two roots": (1, 20), "every other id": (2, 80)}
"""Distance of the videos' numbers, and the most bytes of its own that opening may leave, a video."""


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Indices without their shards, which are not opened for records."""
    return write_datasets(tmp_path_factory.mktemp("large"), VIDEOS)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc/self/smaps_rollup")
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_keeps_few_bytes_a_video_and_shares_the_rest(datasets, kind):
    step, most = KINDS[kind]
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, json.dumps(asdict(datasets[kind])), str(step)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [json.loads(reader.stdout.readline()) for reader in readers]
    together = []
    for reader in readers:  # both are still there
        print("measure", file=reader.stdin, flush=True)
        together.append(json.loads(reader.stdout.readline()))
    for reader in readers:
        reader.communicate("end\n", timeout=60)
    for one, both in zip(told, together, strict=True):
        assert one["videos"] == VIDEOS // step
        grown = one["opened"]["Anonymous"] - one["before"]["Anonymous"]
        assert grown / one["videos"] < most, "opening and reading records keeps next to nothing a video"
        assert (one["after"]["Anonymous"] - one["before"]["Anonymous"]) / one["videos"] < 100
        assert both["Shared_Clean"] + both["Shared_Dirty"] > 60e6, "rows and ids are the same pages in both processes"
