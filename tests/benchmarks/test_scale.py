import json

import pytest

from benchmarks import scale
from benchmarks.scale import Scale, simulate

SMALL = Scale(ranks=6, ranks_per_node=2, batch_per_rank=2, videos=50, videos_per_shard=10, steps=8)


def test_every_video_is_taken_once_in_an_epoch_and_the_rest_is_counted():
    load = simulate(SMALL)
    assert (load.global_batch, load.steps_per_epoch, load.left_out) == (12, 4, 2)
    assert load.seen_twice == load.differs == 0
    assert load.shards == 5
    assert load.reads_per_step == 24


def test_a_sample_taken_twice_would_be_counted(monkeypatch):
    honest = scale.rank_slice
    monkeypatch.setattr(
        scale, "rank_slice", lambda whole, *, rank, world_size: honest(whole, rank=0, world_size=world_size)
    )
    load = simulate(SMALL)
    assert load.seen_twice > 0
    assert load.differs == SMALL.steps


def test_the_spread_over_shards_is_that_of_counting_by_hand(monkeypatch):
    order = scale.step_indices
    seen = {}
    for step in range(SMALL.steps):
        whole = order(SMALL.seed, step, global_batch=12, num_samples=50).tolist()
        for place, sample in enumerate(whole):
            seen.setdefault((step, place // 4), set()).add(sample // 10)  # four samples on each of three nodes
    by_node = [len(shards) for shards in seen.values()]
    load = simulate(SMALL)
    assert load.node_shards == (pytest.approx(sum(by_node) / len(by_node)), max(by_node))
    assert load.shard_readers[0] == pytest.approx(sum(by_node) / SMALL.steps / 5)


def test_the_script_prints_what_the_page_quotes(monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["scale", "--ranks", "4", "--videos", "64", "--batch-per-rank", "2", "--steps", "2"]
    )
    scale.main()
    assert json.loads(capsys.readouterr().out)["global_batch"] == 8
