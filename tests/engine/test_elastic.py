"""A run that goes on with another number of ranks sees the same clips and learns the same, to rounding."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.log import read_log
from engine.world import World
from tests.engine.ranks import Ranks
from tests.engine.tiny import TinyMethod, run_tiny


def _part(world, folder, options):
    torch.set_num_threads(1)
    run_tiny(Path(folder), world=world, method=TinyMethod(dropout=0.0), **options)


def assert_same_training(folder, groups, span):
    """The first group trains to the end, and in another folder each a span: same clips, and losses to 1e-5.

    Args:
        folder: gets both runs.
        groups: functions that run another one on their ranks.
        span: steps between two changes.
    """
    total = span * len(groups)
    options = {"global_batch": 12, "steps": total, "log_every": 1, "save_every": 7, "sync_batch_norm": True}
    groups[0](_part, str(folder / "whole"), options)
    for number, group in enumerate(groups, start=1):
        group(_part, str(folder / "changed"), options | {"stop_at_step": span * number})
    whole, changed = (read_log(folder / name / "log.jsonl") for name in ("whole", "changed"))
    assert [record["step"] for record in changed] == list(range(1, total + 1))
    assert [record["plan_digest"] for record in changed] == [record["plan_digest"] for record in whole]
    assert len({record["plan_digest"] for record in whole}) == total
    for ours, theirs in zip(changed, whole, strict=True):
        near = 0.0 if ours["step"] <= span else 1e-5
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=near, abs=near), ours["step"]
    ours, theirs = (read_checkpoint(latest_checkpoint(folder / name)).method for name in ("changed", "whole"))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_two_ranks_then_one_process_then_two_train_what_two_do(tmp_path, two_ranks):
    def alone(function, *arguments):
        function(World(), *arguments)

    assert_same_training(tmp_path, [two_ranks.run, alone, two_ranks.run], span=8)


@pytest.mark.slow
def test_four_then_two_then_three_ranks_train_what_four_do(tmp_path):
    with ExitStack() as stack:
        groups = [Ranks(size) for size in (4, 2, 3)]
        for group in groups:
            stack.callback(group.stop)
        assert_same_training(tmp_path, [group.run for group in groups], span=20)
