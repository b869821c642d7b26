import re
import shutil
from contextlib import contextmanager

import pytest

from launch.retry import read_starts
from tests.launch.runs import LIMIT_S
from tests.slurm.conftest import run_words

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@contextmanager
def hidden_on(cluster, node, folder):
    """A folder in whose place a node sees an empty one."""
    if not cluster.netns:
        pytest.skip("the nodes of this sandbox share all mounts; as root each has its own")
    cluster.on(node, "mount", "-t", "tmpfs", "none", folder)
    try:
        yield
    finally:
        cluster.on(node, "umount", folder)


def submitted(cluster, run, data, *words):
    """What is said on standard error about a job that must fail."""
    said = cluster.intravid(
        "submit", *run_words(run, data), "--nodes", 2, "--time", 10, "--wait", LIMIT_S, *words, check=False
    )
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    return said.stderr


def test_a_machine_that_sees_other_storage_is_named_in_the_first_second(cluster, shards, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(shards, data)
    run = tmp_path / "run"
    with hidden_on(cluster, "vn2", data):
        submitted(cluster, run, data)
    shown = cluster.intravid("jobs", run).stdout
    assert "node vn2: the shards cannot be opened" in shown
    assert "FAILED, submitted" in shown  # one start: another would not mend it


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ("vn1", "it left no log in {run}/slurm/{job}: the machines of the job probably do not see this folder"),
        ("vn2", "intravid: error: node vn2: the run folder is not there: {run}/slurm/code-"),
    ],
    ids=["of the batch script", "of another rank"],
)
def test_a_machine_that_does_not_see_the_run_folder_is_told_and_not_tried_again(cluster, shards, tmp_path, node, told):
    shared, run = tmp_path / "shared", tmp_path / "shared" / "run"
    shared.mkdir()
    with hidden_on(cluster, node, shared):
        said = submitted(cluster, run, shards)
    job = re.match(r"intravid: error: job (\d+) ended as FAILED; ", said)[1]
    shown = cluster.intravid("jobs", run).stdout
    assert told.format(run=run, job=job) in shown
    assert f"job {job}  pretrain  FAILED, submitted" in shown
    assert len(read_starts(run / "slurm" / job)) == int(node == "vn2")


def test_a_machine_without_the_gpus_that_slurm_promised_is_named(cluster, shards, tmp_path):
    submitted(cluster, tmp_path, shards, "--gpus-per-node", 1, "--dist.device=auto")
    shown = cluster.intravid("jobs", tmp_path).stdout
    assert re.search(r"node vn\d: 1 GPUs are to be there \(launch.gpus_per_node\), and torch sees 0", shown), shown
    assert "FAILED, submitted" in shown
