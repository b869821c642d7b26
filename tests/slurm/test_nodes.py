import shutil

import pytest

from tests.launch.runs import LIMIT_S
from tests.slurm.conftest import run_words

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_a_machine_that_sees_other_storage_is_named_in_the_first_second(cluster, shards, tmp_path):
    if not cluster.netns:
        pytest.skip("the nodes of this sandbox share all mounts; as root each has its own")
    data = tmp_path / "data"
    shutil.copytree(shards, data)
    run = tmp_path / "run"

    cluster.on("vn2", "mount", "-t", "tmpfs", "none", data)
    try:
        words = ("submit", *run_words(run, data), "--nodes", 2, "--time", 10, "--wait", LIMIT_S)
        said = cluster.intravid(*words, check=False)
    finally:
        cluster.on("vn2", "umount", data)
    assert said.returncode == 1
    shown = cluster.intravid("jobs", run).stdout
    assert "node vn2: the shards cannot be opened" in shown
    assert "FAILED, submitted" in shown  # one start: another would not mend it
