import sys

import pytest

from data_process.shards import ShardSet
from data_process.verify import VerifyConfig, verify
from launch.cli import main
from tests.sample_videos import write_video

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_a_build_as_an_array_over_two_nodes_gives_the_bytes_of_a_local_one(cluster, tmp_path):
    for number in range(10):
        write_video(tmp_path / "videos" / "ab"[number % 2] / f"{number}.mp4", seed=number, frames=18)
    options = ["--short-side", "48", "--videos-per-shard", "2"]
    assert main(["build", str(tmp_path / "videos"), str(tmp_path / "local"), *options]) == 0
    words = " ".join([sys.executable, "-m", "launch", "build", f"{tmp_path}/videos", f"{tmp_path}/out", *options])
    log = tmp_path / "task-%a.log"
    job = cluster.sbatch(tmp_path, "--array=3-9:2", "--nodes=1", f"--output={log}", "--wrap", words)
    for task in (3, 5, 7, 9):
        job.job_id = f"{job.job_id.split('_')[0]}_{task}"
        assert job.end() == "COMPLETED", (tmp_path / f"task-{task}.log").read_text()
    local = {path.name: path.read_bytes() for path in (tmp_path / "local").glob("*.lmdb")}
    assert len(local) == 5
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.lmdb")} == local
    assert len(ShardSet(tmp_path / "out")) == 10
    assert verify(tmp_path / "out", VerifyConfig(level=4)) == []
