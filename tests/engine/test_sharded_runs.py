"""Runs of a method whose bank is shared out over the ranks: stopped and resumed, also by another number of ranks."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from data_process.errors import RunError
from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.trainer import Outcome
from engine.world import World
from models.gather import gather_rows
from models.method import MethodOutput
from models.sharded_bank import build_bank
from tests.engine.test_trainer import assert_same_run
from tests.engine.tiny import NUM_SAMPLES, TinyMethod, run_tiny


class BankedMethod(TinyMethod):
    """Each sample is drawn to its own row of a bank and away from four others."""

    def __init__(self, placement, **settings):
        super().__init__(norm=False, dropout=0.0, **settings)
        generator = torch.Generator().manual_seed(0)
        self.videos = build_bank(placement, NUM_SAMPLES, 2, momentum=0.5, generator=generator)

    def forward(self, batch):
        drawn = self.videos.find((batch.index.unsqueeze(1) + torch.arange(0, 15, 3)) % NUM_SAMPLES)
        output = super().forward(batch)
        features = functional.normalize(self.head(self.backbone.pooled(batch.clips[0])), dim=1)
        self._seen = batch.index, features.detach()
        logits = self.videos.scores(features, drawn) / 0.5
        target = torch.zeros(len(batch), dtype=torch.int64)
        return MethodOutput({**output.losses, "contrast": functional.cross_entropy(logits, target)}, output.metrics)

    def after_step(self):
        super().after_step()
        self.videos.update(*(gather_rows(rows) for rows in self._seen))


def train(world, folder, placement, stop_at_step=0):
    torch.set_num_threads(1)
    outcome, _ = run_tiny(Path(folder), world=world, method=BankedMethod(placement), stop_at_step=stop_at_step)
    return outcome


def assert_near(run, other):
    """Weights and banks of two finished runs."""
    ours, theirs = (read_checkpoint(latest_checkpoint(folder)) for folder in (run, other))
    assert ours.step == theirs.step == 24
    assert ours.method.keys() == theirs.method.keys()
    for name, value in ours.method.items():
        torch.testing.assert_close(value, theirs.method[name], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process with a whole bank."""
    folder = tmp_path_factory.mktemp("alone")
    assert train(World(), folder, "replicated") is Outcome.FINISHED
    rows = read_checkpoint(latest_checkpoint(folder)).method["videos.rows"]
    assert not torch.equal(rows, BankedMethod("replicated").videos.rows)
    return folder


def test_two_ranks_resume_bitwise_and_end_near_one_process_with_a_whole_bank(tmp_path, two_ranks, alone):
    assert two_ranks.run(train, str(tmp_path / "whole"), "sharded") == [Outcome.FINISHED] * 2
    assert two_ranks.run(train, str(tmp_path / "cut"), "sharded", 10) == [Outcome.PAUSED] * 2
    assert two_ranks.run(train, str(tmp_path / "cut"), "sharded") == [Outcome.FINISHED] * 2
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    assert_near(tmp_path / "whole", alone)


def test_another_number_of_ranks_and_the_other_placement_go_on(tmp_path, two_ranks, alone):
    for step, placement in ((5, "sharded"), (15, "replicated"), (0, "sharded")):
        two_ranks.run(train, str(tmp_path), placement, step)
        if step:
            assert train(World(), tmp_path, placement, step + 5) is Outcome.PAUSED
    assert_near(tmp_path, alone)


def _poisoned(world, folder):
    with pytest.raises(RunError, match=r"nonfinite-000000009\.pt"):
        run_tiny(Path(folder), world=world, method=BankedMethod("sharded", poison_at=8))


def test_the_state_of_a_loss_that_is_not_finite_holds_the_whole_bank(tmp_path, two_ranks):
    two_ranks.run(_poisoned, str(tmp_path))
    state = read_checkpoint(tmp_path / "checkpoints/nonfinite-000000009.pt")
    assert state.method["videos.rows"].shape == (NUM_SAMPLES, 2)
