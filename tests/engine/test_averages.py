"""The moving average of the weights: torch's own formula, in every checkpoint, chosen where weights are read."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from data_process.errors import InputError
from engine.averages import WeightAverages, averaged_tensors
from engine.checkpoint import backbone_weights, latest_checkpoint, read_checkpoint
from models.momentum import MomentumNetwork
from tests.engine.test_trainer import assert_same_run
from tests.engine.tiny import TinyMethod, run_tiny


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def saved(run):
    return read_checkpoint(latest_checkpoint(run))


class Followed(TinyMethod):
    """Keeps torch's averages beside it."""

    def __init__(self, decay):
        super().__init__()
        self.theirs = [
            AveragedModel(nn.ModuleList([self.backbone, self.head]), multi_avg_fn=get_ema_multi_avg_fn(decay))
        ]

    def after_step(self):
        super().after_step()
        self.theirs[0].update_parameters(nn.ModuleList([self.backbone, self.head]))


def test_averages_are_those_of_torch_bit_for_bit(tmp_path):
    method = Followed(0.9)
    run_tiny(tmp_path, method=method, ema=0.9)
    state = saved(tmp_path)
    theirs = dict(method.theirs[0].module.named_parameters())
    ours = {name.replace("backbone.", "0.").replace("head.", "1."): value for name, value in state.ema.items()}
    assert theirs.keys() == ours.keys() - {"0.norm.running_mean", "0.norm.running_var"}
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    assert not torch.equal(state.ema["backbone.conv.weight"], state.method["backbone.conv.weight"])


def test_running_statistics_are_averaged_beside_their_weights_and_followers_are_not():
    norm = nn.BatchNorm1d(2)
    module = nn.ModuleDict({"norm": norm, "follower": MomentumNetwork(norm, momentum=0.5), "bare": nn.Linear(1, 1)})
    module.register_buffer("bank", torch.ones(5))
    names = averaged_tensors(module).keys()
    expected = {f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    assert names == expected | {"bare.weight", "bare.bias"}
    averages = WeightAverages(module, decay=0.75)
    averages.update()
    norm.running_mean += 4.0
    averages.update()
    torch.testing.assert_close(averages.state()["norm.running_mean"], torch.ones(2))


def test_averages_resume_bitwise_and_change_no_training(tmp_path):
    run_tiny(tmp_path / "whole", ema=0.99)
    for step in (1, 7, 24):
        run_tiny(tmp_path / "cut", ema=0.99, stop_at_step=step)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    whole, cut = saved(tmp_path / "whole"), saved(tmp_path / "cut")
    assert whole.ema.keys() == cut.ema.keys() != set()
    assert all(torch.equal(value, cut.ema[name]) for name, value in whole.ema.items())
    run_tiny(tmp_path / "without")
    assert_same_run(tmp_path / "whole", tmp_path / "without")
    assert saved(tmp_path / "without").ema == {}


def test_averages_may_be_asked_for_later_and_start_there(tmp_path):
    run_tiny(tmp_path, stop_at_step=6)
    run_tiny(tmp_path, stop_at_step=7, ema=0.99)
    state = saved(tmp_path)
    assert torch.equal(state.ema["head.1.weight"], state.method["head.1.weight"])


def test_averages_of_other_weights_are_refused():
    averages = WeightAverages(nn.Linear(1, 1), decay=0.9)
    with pytest.raises(InputError, match=r"averages \(train\.ema\) are of other weights .*: bias and 0 more"):
        averages.restore({"weight": torch.ones(1, 1)})


def test_weights_of_a_backbone_are_taken_as_trained_or_averaged(tmp_path):
    run_tiny(tmp_path, ema=0.9, stop_at_step=6)
    state = saved(tmp_path)
    averaged, trained = backbone_weights(state, averaged=True), backbone_weights(state)
    assert averaged.keys() == trained.keys()
    assert torch.equal(averaged["conv.weight"], state.ema["backbone.conv.weight"])
    assert torch.equal(averaged["norm.num_batches_tracked"], trained["norm.num_batches_tracked"])
    assert not torch.equal(averaged["norm.running_var"], trained["norm.running_var"])


def test_averages_that_were_not_kept_are_not_replaced_by_weights(tmp_path):
    run_tiny(tmp_path, stop_at_step=3)
    with pytest.raises(InputError, match=r"step 3 holds no moving average .* train\.ema"):
        backbone_weights(saved(tmp_path), averaged=True)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_is_no_share_is_refused(tmp_path, decay):
    with pytest.raises(InputError, match=r"train\.ema"):
        run_tiny(tmp_path, ema=decay)
