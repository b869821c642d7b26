"""A million videos: what a process needs of its own, and what it shares."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_process.id_table import IdTable
from data_process.index import INDEX_FORMAT, ROW

ROOT = Path(__file__).resolve().parents[2]
VIDEOS, PER_SHARD = 1_000_000, 512

READER = """
import json, sys
from pathlib import Path

import numpy as np

from data_process.shards import ShardSet


def used():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


import data_process.lmdb_pages, hashlib, zlib
before = used()
shards = ShardSet(sys.argv[1], split="train")
rng = np.random.default_rng(0)
for index in rng.integers(0, len(shards), 2000).tolist():
    assert shards[index].id == f"class {shards[index].label}/video {index:09d}"
assert shards.index_of("class 7/video 000400007") == 400007
opened = used()
labels, digest = shards.labels, shards.digest
print(json.dumps({"videos": len(shards), "before": before, "opened": opened, "after": used()}), flush=True)
sys.stdin.readline()
print(json.dumps(used()), flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """An index without its shards, which are not opened for records."""
    root = tmp_path_factory.mktemp("large")
    rows = np.zeros(VIDEOS, dtype=ROW)
    number = np.arange(VIDEOS)
    rows["shard"], rows["position"], rows["label"] = number // PER_SHARD, number % PER_SHARD, number % 400
    rows["offset"], rows["length"], rows["frames"] = 8192 + 4096 * (number % PER_SHARD), 4096, 250
    rows["width"], rows["height"], rows["fps_x100"] = 340, 256, 2500
    np.save(root / "index.npy", rows)
    (root / "ids.bin").write_bytes(IdTable.pack([f"class {one % 400}/video {one:09d}" for one in range(VIDEOS)]))
    facts = {"size": 1 << 31, "transaction": 9, "records": PER_SHARD, "offsets_sha256": "0" * 64}
    shards = {str(one): {"name": f"shard-{one:06d}.lmdb", **facts} for one in range(-(-VIDEOS // PER_SHARD))}
    described = {
        "format": INDEX_FORMAT, "videos": VIDEOS, "frames": 250 * VIDEOS, "splits": {"train": [0, VIDEOS]},
        "classes": [f"class {one}" for one in range(400)], "shards": shards,
    }  # fmt: skip
    (root / "index.json").write_text(json.dumps(described))
    return root


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc/self/smaps_rollup")
def test_a_process_keeps_few_bytes_a_video_and_shares_the_rest(root):
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(root)],
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
        assert one["videos"] == VIDEOS
        grown = one["opened"]["Anonymous"] - one["before"]["Anonymous"]
        assert grown / VIDEOS < 10, "opening and reading records keeps nothing a video"
        assert (one["after"]["Anonymous"] - one["before"]["Anonymous"]) / VIDEOS < 100
        assert both["Shared_Clean"] + both["Shared_Dirty"] > 60e6, "rows and ids are the same pages in both processes"
