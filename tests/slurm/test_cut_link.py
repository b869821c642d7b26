import sys
import time

import pytest

from engine.log import read_log
from tests.launch.runs import finish, pretrain_words
from tests.slurm.conftest import until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

STEPS = 400
TIMEOUT_S = 10
ENDED_S = TIMEOUT_S + 15
"""For both to end on a busy machine; a collective alone would wait for 300 s."""


def start_both(cluster, words):
    """One rank on each of two nodes, with no launcher."""
    shared = {
        "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "vn1", "MASTER_PORT": 29555,
        "GLOO_SOCKET_IFNAME": "eth0",
    }  # fmt: skip
    command = [sys.executable, "-m", "launch", *words]
    return [cluster.start_on(f"vn{rank + 1}", command, {**shared, "RANK": rank}) for rank in range(2)]


def test_a_cut_link_ends_both_sides_in_time_and_the_run_resumes(cluster, shards, tmp_path):
    if not cluster.netns:
        pytest.skip("the nodes of this sandbox share one network; as root they have links that can be cut")
    settings = {"train.steps": STEPS, "train.save_every": 5, "train.hang_timeout_s": TIMEOUT_S}
    words = pretrain_words(tmp_path, shards, settings)
    ranks = start_both(cluster, words)
    try:
        log = tmp_path / "log.jsonl"
        until(lambda: log.exists() and any(record["step"] >= 10 for record in read_log(log)), "step 10")
        cluster.sandbox("cut-node", "vn2")
        cut = time.monotonic()
        ended = [finish(rank) for rank in ranks]
        assert time.monotonic() - cut < ENDED_S
    finally:
        cluster.sandbox("start-node", "vn2")
    for status, said in ended:
        assert status == 1, said
        assert "intravid: error: all 2 ranks, on 2 machines from vn1 to vn2, are after step" in said
        assert "the network between the machines does not go on" in said
    reached = read_log(log)[-1]["step"]
    assert reached < STEPS
    resumed = [finish(rank) for rank in start_both(cluster, [*words, f"--train.stop_at_step={reached + 5}"])]
    assert [status for status, _ in resumed] == [0, 0], resumed
    assert read_log(log)[-1]["step"] == reached + 5
