"""Gradient accumulation in the loop: the same run as without, and one exchange of gradients a step."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from data_process.errors import InputError
from engine.checkpoint import latest_checkpoint, read_checkpoint
from engine.micro_batches import gradients
from engine.precision import Precision, PrecisionConfig
from engine.train_config import TrainConfig
from pipelines.batch import ViewBatch
from tests.engine.test_trainer import assert_same_run, exact_log
from tests.engine.tiny import TinyMethod, run_tiny


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def plain_method():
    return TinyMethod(norm=False, dropout=0.0)


def assert_near(run, other):
    ours, theirs = (read_checkpoint(latest_checkpoint(folder)) for folder in (run, other))
    for name, value in ours.method.items():
        torch.testing.assert_close(value, theirs.method[name], rtol=0, atol=1e-6, msg=lambda t, n=name: f"{n}: {t}")
    for mine, other_record in zip(exact_log(run), exact_log(other), strict=True):
        assert mine["losses"] == pytest.approx(other_record["losses"], abs=1e-6)
        assert mine["plan_digest"] == other_record["plan_digest"]
        assert (mine["step"], mine["lr"]) == (other_record["step"], other_record["lr"])


@pytest.mark.parametrize("accumulate", [2, 4])
def test_passes_train_what_one_pass_trains(tmp_path, accumulate):
    run_tiny(tmp_path / "one", method=plain_method())
    run_tiny(tmp_path / "more", method=plain_method(), accumulate=accumulate)
    assert_near(tmp_path / "more", tmp_path / "one")


def _on_a_rank(world, folder, options):
    torch.set_num_threads(1)
    run_tiny(Path(folder), world=world, method=plain_method(), **options)


def test_passes_on_two_ranks_train_what_one_process_trains_in_one(tmp_path, two_ranks):
    run_tiny(tmp_path / "one", method=plain_method())
    two_ranks.run(_on_a_rank, str(tmp_path / "two"), {"accumulate": 2})
    assert_near(tmp_path / "two", tmp_path / "one")


def test_a_run_in_passes_resumes_bitwise(tmp_path):
    run_tiny(tmp_path / "whole", accumulate=2)
    run_tiny(tmp_path / "cut", accumulate=2, stop_at_step=7)
    run_tiny(tmp_path / "cut", accumulate=2)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


class _Scalars(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 3)

    def forward(self, batch):
        given = self.layer(batch.clips[0].flatten(1))
        return {"square": given.square().mean()}, {"mean": given.detach().mean()}


def _batch(rank):
    clips = torch.from_numpy(np.random.default_rng(rank).normal(size=(8, 1, 1, 2, 3)).astype(np.float32))
    return ViewBatch((clips,), torch.arange(8))


def _exchanges(world, parts):
    module = nn.parallel.DistributedDataParallel(_Scalars())
    exchanged = []

    def hook(state, bucket):
        exchanged.append(bucket.index())
        return torch.distributed.all_reduce(bucket.buffer().div_(2), async_op=True).get_future().then(
            lambda done: done.value()[0]
        )  # fmt: skip

    module.register_comm_hook(None, hook)
    precision = Precision(PrecisionConfig(), world.device)
    losses, metrics = gradients(module, _batch(world.rank), parts=parts, precision=precision, at=lambda stage: None)
    gradient = module.module.layer.weight.grad
    return exchanged, gradient.tolist(), losses["square"].item(), metrics["mean"].item()


def test_only_the_last_pass_exchanges_gradients(two_ranks):
    whole, passes = (two_ranks.run(_exchanges, parts) for parts in (1, 4))
    for one, other in zip(whole, passes, strict=True):
        assert one[0] == other[0] == [0]
        np.testing.assert_allclose(one[1], other[1], atol=1e-7)
        assert one[2:] == pytest.approx(other[2:], abs=1e-6)
    assert whole[0][1] == whole[1][1]


def test_a_batch_that_does_not_divide_into_passes_names_the_setting(tmp_path):
    with pytest.raises(InputError, match=r"global_batch \(8\) .* 1 ranks times the 3 passes of train\.accumulate"):
        run_tiny(tmp_path, accumulate=3)


def test_a_static_graph_is_refused():
    with pytest.raises(InputError, match=r"train\.accumulate above 1 cannot be used with train\.static_graph"):
        TrainConfig(steps=1, accumulate=2, static_graph=True)


def test_what_looks_at_the_batch_is_named_at_the_start(tmp_path, caplog):
    class Looking(TinyMethod):
        compares_batch = mixes_samples = True

    run_tiny(tmp_path / "all", method=Looking(), accumulate=2, steps=3)
    assert "train.accumulate 2: Looking makes clips of several samples" in caplog.text
    assert "the loss of Looking compares the samples of a batch, and now those of a pass: 1/2" in caplog.text
    assert "the batch norms of Looking see 1/2" in caplog.text
    caplog.clear()
    run_tiny(tmp_path / "neither", method=plain_method(), accumulate=2, steps=3)
    assert "train.accumulate" not in caplog.text
