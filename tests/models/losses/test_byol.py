"""BYOL's loss against loops over single numbers."""

import math

import pytest
import torch

from models.losses.byol import regression, symmetric_regression


def slow_cosine(one, other):
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    lengths = [math.sqrt(sum(a * a for a in vector)) for vector in (one, other)]
    return dot / (lengths[0] * lengths[1])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("batch", "dim"), [(1, 2), (3, 5), (7, 64)])
def test_the_loss_equals_a_slow_version(batch, dim):
    rows = 3.0 * normal(4, batch, dim, seed=batch)
    p1, p2, t1, t2 = rows
    pairs = [*zip(p1.tolist(), t2.tolist(), strict=True), *zip(p2.tolist(), t1.tolist(), strict=True)]
    expected = sum(2 - 2 * slow_cosine(*pair) for pair in pairs) / batch
    assert symmetric_regression((p1, p2), (t1, t2)).item() == pytest.approx(expected, rel=1e-12)


def test_equal_directions_cost_nothing_and_opposite_ones_four():
    row = normal(2, 6)
    assert regression(row, 7.0 * row).item() == pytest.approx(0.0, abs=1e-12)
    assert regression(row, -0.1 * row).item() == pytest.approx(4.0, rel=1e-12)


def test_only_predictions_get_a_gradient():
    predictions, targets = normal(3, 4).requires_grad_(), normal(3, 4, seed=1).requires_grad_()
    regression(predictions, targets).backward()
    assert predictions.grad.abs().sum() > 0
    assert targets.grad is None


def test_numbers_of_half_precision_are_compared_in_single():
    row = normal(3, 4).to(torch.bfloat16)
    loss = regression(row, row)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
