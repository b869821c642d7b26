import math

import pytest
import torch

from models.losses.cross_view_nce import softmax_nce
from models.losses.queue_nce import queue_logits


@pytest.mark.parametrize(("batch", "rows", "dim", "temperature"), [(1, 1, 3, 0.07), (3, 7, 5, 0.5), (4, 33, 16, 1.0)])
def test_the_loss_of_a_queue_equals_a_slow_version(batch, rows, dim, temperature):
    rng = torch.Generator().manual_seed(batch)
    query, key = (torch.randn(batch, dim, generator=rng, dtype=torch.float64) for _ in range(2))
    queue = torch.randn(rows, dim, generator=rng, dtype=torch.float64)
    expected = 0.0
    for one, own in zip(query, key, strict=True):
        scores = [float(one @ other) / temperature for other in (own, *queue)]
        expected += (math.log(sum(map(math.exp, scores))) - scores[0]) / batch
    loss = softmax_nce(queue_logits(query, key, queue, temperature=temperature))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
