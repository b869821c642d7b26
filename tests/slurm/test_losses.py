"""What takes SLURM minutes to notice; INTRAVID_SLURM_LONG=1 runs it."""

import pytest

from launch.retry import read_starts
from tests.launch.runs import TORCHRUN, assert_same_run, complete
from tests.slurm.conftest import LONG, run_words, until

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.timeout(500),
    pytest.mark.skipif(not LONG, reason="takes minutes; INTRAVID_SLURM_LONG=1 runs it"),
]

MANY = 800
NOTICED_S = 300


@pytest.fixture(scope="module")
def unbroken(shards, tmp_path_factory):
    """Run folder of two ranks on this machine that nobody interrupted, of more steps than that of other tests."""
    run = tmp_path_factory.mktemp("unbroken")
    complete([*run_words(run, shards), f"--train.steps={MANY}"], under=TORCHRUN)
    return run


def starts(job):
    return read_starts(job.run / "slurm" / job.job_id)


def test_a_preempted_job_goes_on_where_it_was(cluster, shards, unbroken, tmp_path):
    job = cluster.submit(tmp_path, shards, f"--train.steps={MANY}", "--partition", "low")
    job.reach(20)
    high = cluster.sbatch(tmp_path, "-p", "high", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap", "sleep 5")
    until(lambda: len(starts(job)) == 2, "the second start", NOTICED_S)
    assert high.end() == "COMPLETED"
    saved = starts(job)[1]["progress"]
    assert saved >= 20
    until(lambda: job.state() == "COMPLETED", "the end", NOTICED_S)
    assert f"going on from step {saved} " in job.messages()
    assert_same_run(tmp_path, unbroken, steps=MANY)


def test_a_lost_machine_is_replaced_and_the_run_goes_on(cluster, shards, unbroken, tmp_path):
    job = cluster.submit(tmp_path, shards, f"--train.steps={MANY}", "--train.save_every=20")
    job.reach(45)
    before = starts(job)[0]["nodes"]
    lost = "vn2" if "vn2" in before or "vn[1-2]" in before else "vn1"
    cluster.sandbox("kill-node", lost)
    try:
        until(lambda: len(starts(job)) == 2, "the second start", NOTICED_S)
        assert starts(job)[1]["nodes"] != before
        saved = starts(job)[1]["progress"]
        until(lambda: job.state() == "COMPLETED", "the end", NOTICED_S)
    finally:
        cluster.sandbox("start-node", lost)
    assert f"going on from step {saved} " in job.messages()
    assert_same_run(tmp_path, unbroken, steps=MANY)


def test_a_time_limit_leads_to_another_start(cluster, shards, tmp_path):
    words = ("--train.steps=1000000", "--time", 3, "--signal-delay-s", 60)
    job = cluster.submit(tmp_path, shards, *words)
    until(lambda: len(starts(job)) == 2, "the second start", NOTICED_S)
    saved = starts(job)[1]["progress"]
    assert saved > 0
    until(lambda: f"going on from step {saved} " in job.messages(), "the resumption")
    job.cancel()
    assert job.end() == "CANCELLED"
