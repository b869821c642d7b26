"""An imported database is a dataset like any other: verified, indexed anew, trained on."""

import pytest

from launch.cli import main
from tests.data_process.legacy_databases import write_legacy
from tests.launch.runs import heartbeat, pretrain_words
from tests.sample_videos import jpegs


@pytest.mark.parametrize("old", [False, True], ids=["msgpack 1", "msgpack 0.6"])
def test_an_imported_database_is_verified_indexed_and_trained_on(tmp_path, capsys, old):
    videos = {f"{'ab'[number % 2]}/video {number}": jpegs(number, frames=8 + number) for number in range(9)}
    source = write_legacy(tmp_path / "old.lmdb", videos, old=old, folder=not old)
    shards, run = tmp_path / "shards", tmp_path / "run"
    assert main(["import-lmdb", str(source), str(shards), "--videos-per-shard", "4"]) == 0
    assert main(["verify", str(shards), "--level", "4"]) == 0
    assert main(["index", str(shards)]) == 0
    assert main(pretrain_words(run, shards, {"train.steps": 2})) == 0
    assert (heartbeat(run)["step"], heartbeat(run)["state"]) == (2, "finished")
