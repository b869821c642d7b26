"""Gradient accumulation: micro-batches leave in memories what the undivided batch does."""

import functools

import pytest
import torch

from models.methods.byol import BYOL
from models.methods.cstp import TaskWeights
from models.methods.simclr import SimCLR
from models.methods.supervised import Supervised
from models.pending import Pending
from tests.models import test_baselines, test_cstp, test_dualvar, test_iic, test_vtdl
from tests.models.global_batch import clips_of, steps

IIC = functools.partial(test_iic._global_batch, intra="repeat")


def cstp():
    # BYOL's predictor has a batch norm, which sees a pass alone.
    return test_cstp.build(projector_dim=None, mlp_heads=False, weights=TaskWeights(byol=0)).double()


def cstp_batch(seed):
    return test_cstp.as_double(test_cstp.make_batch(size=8, seed=seed))


PER_SAMPLE = {
    "supervised": (functools.partial(test_baselines.build, Supervised, dropout=0.0), test_baselines.batch_of),
    "moco": (test_baselines.METHODS["moco"][0], test_baselines.batch_of),
    "moco, symmetric": (test_baselines.METHODS["moco_symmetric"][0], test_baselines.batch_of),
    "byol": (test_baselines.METHODS["byol"][0], test_baselines.batch_of),
    "iic, bank": (test_iic._build, IIC),
    "iic, moco": (functools.partial(test_iic._build, framework="moco", key_momentum=0.9), IIC),
    "vtdl, queue": (
        functools.partial(test_vtdl.double_method, num_negatives=11),
        functools.partial(test_vtdl.double_batch, views=3),
    ),
    "vtdl, bank": (
        functools.partial(test_vtdl.double_method, memory="bank"),
        functools.partial(test_vtdl.double_batch, views=2),
    ),
    "dualvar, moco": (functools.partial(test_dualvar.build, **test_dualvar.MOCO), test_dualvar.batch_of),
    "cstp": (cstp, cstp_batch),
}
"""Methods whose loss is a mean over samples, without batch norm."""


@pytest.mark.parametrize("passes", [2, 4])
@pytest.mark.parametrize("name", PER_SAMPLE)
def test_micro_batches_train_as_the_undivided_batch_does(name, passes):
    build, batch_of = PER_SAMPLE[name]
    assert not build().compares_batch
    losses, gradients, state = steps(build, batch_of)
    cut_losses, cut_gradients, cut_state = steps(build, batch_of, passes=passes)
    torch.testing.assert_close(cut_losses, losses, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(cut_gradients, gradients, rtol=1e-9, atol=1e-11)
    calls = {key for key in state if key.endswith("shuffling._extra_state")}  # counts passes
    assert (gradients.abs().sum(dim=1) > 0).all()
    for key in state.keys() - calls:
        torch.testing.assert_close(cut_state[key], state[key], rtol=1e-9, atol=1e-11, msg=lambda t, k=key: f"{k}: {t}")


@pytest.mark.parametrize(
    ("build", "batch_of"),
    [
        (functools.partial(test_baselines.build, SimCLR), test_baselines.batch_of),
        (functools.partial(test_iic._build, framework="simclr"), IIC),
        (test_dualvar.build, test_dualvar.batch_of),
    ],
    ids=["simclr", "iic", "dualvar"],
)
def test_what_contrasts_a_batch_says_so_and_sees_fewer_negatives(build, batch_of):
    assert build().compares_batch
    losses, _, _ = steps(build, batch_of)
    cut_losses, _, _ = steps(build, batch_of, passes=2)
    assert (cut_losses[0] - losses[0]).abs() > 1e-3


def test_a_step_that_was_left_out_leaves_nothing_for_the_next():
    batch = test_baselines.batch_of(0)
    pending = Pending()
    for part in batch.split(2):
        pending.add(part, index=part.index)
    for part in (other := test_baselines.batch_of(1)).split(2):
        pending.add(part, index=part.index)
    assert torch.equal(pending.take()["index"], other.index)
    assert pending.take() == {}


def test_a_loss_with_a_graph_leaves_rows_without_one():
    pending = Pending()
    pending.add(test_baselines.batch_of(0), rows=torch.ones(8, 2, requires_grad=True) * 2)
    assert not pending.take()["rows"].requires_grad


def test_a_forgotten_step_is_not_counted_in_a_recall():
    method, batch = cstp(), cstp_batch(0)
    method(batch)
    parts = list(batch.split(2))
    for part in parts:
        method(part)
    method.after_step()
    assert float(method.recalls.get_buffer("spatial_counts")[0].sum()) == len(batch)


def test_byol_with_batch_norms_is_another_method_on_micro_batches():
    build = functools.partial(test_baselines.build, BYOL, projection_dim=5, hidden_dim=7, momentum=0.9)
    losses, _, _ = steps(build, test_baselines.batch_of)
    cut_losses, _, _ = steps(build, test_baselines.batch_of, passes=2)
    assert (cut_losses - losses).abs().max() > 1e-6


def test_micro_batches_are_the_batch_in_order():
    batch = test_baselines.batch_of(3)
    parts = list(batch.split(4))
    assert [part.continues for part in parts] == [False, True, True, True]
    assert torch.equal(torch.cat([part.index for part in parts]), batch.index)
    assert torch.equal(torch.cat([part.targets["label"] for part in parts]), batch.targets["label"])
    assert torch.equal(torch.cat([part.clips[1] for part in parts]), clips_of(3)[1])
    with pytest.raises(ValueError, match="8 samples do not divide into 3"):
        list(batch.split(3))
