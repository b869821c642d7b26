"""VTDL's scores against loops, over sizes."""

import math

import pytest
import torch

from models.losses.cross_view_nce import binary_nce, softmax_nce
from models.losses.queue_nce import queue_logits, with_same_video, without_own_keys

SIZES = [(1, 1, 2), (2, 3, 5), (5, 17, 8)]


def drawn(batch, keys, dim):
    rng = torch.Generator().manual_seed(batch)
    sizes = (batch, batch, keys, batch)
    return [torch.randn(size, dim, generator=rng, dtype=torch.float64).requires_grad_() for size in sizes]


def slow_scores(query, key, queue, other, temperature):
    """Row by row: own key, queued keys, same video."""
    rows = []
    query, key, queue, other = (tensor.detach() for tensor in (query, key, queue, other))
    for b in range(len(query)):
        columns = [key[b], *queue, other[b]]
        rows.append([sum(float(q) * float(c) for q, c in zip(query[b], column, strict=True)) for column in columns])
    return [[value / temperature for value in row] for row in rows]


@pytest.mark.parametrize(("batch", "keys", "dim"), SIZES)
def test_losses_of_a_queue_equal_a_slow_version(batch, keys, dim):
    query, key, queue, other = drawn(batch, keys, dim)
    logits = queue_logits(query, key, queue, temperature=0.5)
    logits = with_same_video(logits, query, other, temperature=0.5)
    rows = slow_scores(query, key, queue, other, 0.5)
    softmax, nce, noise = 0.0, 0.0, (keys + 1) / 29
    for row in rows:
        softmax -= math.log(math.exp(row[0]) / sum(math.exp(value) for value in row)) / batch
        p = [math.exp(value) / 40 for value in row]
        nce -= (
            math.log(p[0] / (p[0] + noise + 1e-7)) + sum(math.log(noise / (n + noise + 1e-7)) for n in p[1:])
        ) / batch
    assert softmax_nce(logits).item() == pytest.approx(softmax, rel=1e-12)
    assert binary_nce(logits.exp() / 40, 29).item() == pytest.approx(nce, rel=1e-12)


@pytest.mark.parametrize(("batch", "keys", "dim"), SIZES)
def test_leaving_columns_out_equals_never_having_had_them(batch, keys, dim):
    query, key, queue, other = drawn(batch, keys, dim)
    own = torch.rand(batch, keys, generator=torch.Generator().manual_seed(2)) < 0.5
    logits = with_same_video(queue_logits(query, key, queue, temperature=0.3), query, other, temperature=0.3)
    loss = softmax_nce(without_own_keys(logits, own))
    slow = 0.0
    for row, ignored in zip(slow_scores(query, key, queue, other, 0.3), own, strict=True):
        counted = [row[0], *(value for value, out in zip(row[1:-1], ignored, strict=True) if not out), row[-1]]
        slow -= math.log(math.exp(row[0]) / sum(math.exp(value) for value in counted)) / batch
    assert loss.item() == pytest.approx(slow, rel=1e-12)
    loss.backward()
    assert query.grad.isfinite().all()
    assert torch.equal(queue.grad[own.all(dim=0)], torch.zeros_like(queue.grad[own.all(dim=0)]))


def test_the_loss_falls_when_the_positive_comes_closer_or_the_other_moment_goes():
    query, queue = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    near, far = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.1, 0.9]])

    def loss(key, other):
        logits = queue_logits(query, key, queue, temperature=0.1)
        return softmax_nce(with_same_video(logits, query, other, temperature=0.1))

    assert loss(near, far) < loss(far, far)
    assert loss(near, far) < loss(near, near)
