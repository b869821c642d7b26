import math

import pytest
import torch
from torch.nn import functional

from models.losses.cross_view_nce import softmax_nce
from models.losses.nt_xent import nt_xent_logits


def views_of(count, dim, *, unit=True):
    views = torch.randn(count, 2, dim, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    return functional.normalize(views, dim=2) if unit else views


def slow_loss(views, temperature):
    """The mean over all clips of -z.z+/T + log of the sum over all other clips of exp(z.z'/T)."""
    clips = [(video, view) for view in range(2) for video in range(len(views))]
    total = 0.0
    for video, view in clips:
        scores = {
            other: float(views[video, view] @ views[other]) / temperature
            for other in clips
            if other != (video, view)
        }  # fmt: skip
        total += math.log(sum(math.exp(score) for score in scores.values())) - scores[video, 1 - view]
    return total / len(clips)


@pytest.mark.parametrize(("count", "dim", "temperature"), [(1, 3, 0.5), (2, 5, 0.07), (5, 16, 0.1), (9, 2, 1.0)])
@pytest.mark.parametrize("unit", [True, False])
def test_the_loss_equals_a_slow_version(count, dim, temperature, unit):
    views = views_of(count, dim, unit=unit)
    loss = softmax_nce(nt_xent_logits(views, temperature))
    assert loss.item() == pytest.approx(slow_loss(views, temperature), rel=1e-12, abs=1e-12)


def test_logits_hold_the_partner_first_and_each_other_clip_once_in_order():
    views = views_of(4, 8)
    clips = views.transpose(0, 1).flatten(0, 1)
    logits = nt_xent_logits(views, 1.0)
    assert logits.shape == (8, 7)
    for row in range(8):
        partner = (row + 4) % 8
        columns = [partner] + [column for column in range(8) if column not in (row, partner)]
        torch.testing.assert_close(logits[row], clips[columns] @ clips[row])


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_rows_of_all_ranks_are_those_of_the_global_batch(ranks):
    views = views_of(6, 4)
    whole = nt_xent_logits(views, 0.1).unflatten(0, (2, 6))
    size = 6 // ranks
    for rank in range(ranks):
        own = slice(rank * size, (rank + 1) * size)
        part = nt_xent_logits(views, 0.1, own).unflatten(0, (2, size))
        torch.testing.assert_close(part, whole[:, own], rtol=1e-12, atol=1e-12)


def test_a_single_video_has_no_negatives_and_no_loss():
    assert softmax_nce(nt_xent_logits(views_of(1, 4), 0.07)) == 0


def test_the_loss_falls_when_partners_move_closer():
    apart = views_of(5, 8)
    closer = apart.clone()
    closer[:, 1] = functional.normalize(apart[:, 1] + apart[:, 0], dim=1)
    assert softmax_nce(nt_xent_logits(closer, 0.1)) < softmax_nce(nt_xent_logits(apart, 0.1))
