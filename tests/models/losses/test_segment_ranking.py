import itertools
import math

import pytest
import torch
from torch.nn import functional

from models.losses.segment_ranking import in_first_order, segment_ranking, twin_logits
from models.views import reorder_chunks


def segments_of(batch, count, dim, seed=0):
    drawn = torch.randn(batch, count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(drawn, dim=2)


def slow_ranking(one, other, theta, largest):
    """Mean over clips, their 2S segments and the 2S - 2 others of each of log(1 + exp((v.u - v.v+) / theta))."""
    terms = []
    for clips in zip(one, other, strict=True):
        places = list(itertools.product(range(2), range(one.shape[1])))
        for clip, segment in places:
            vector, twin = clips[clip][segment], clips[1 - clip][segment]
            for clip2, segment2 in places:
                if segment2 != segment:
                    margin = float(vector @ clips[clip2][segment2] - vector @ twin) / theta
                    terms.append(math.log1p(math.exp(margin if largest is None else min(margin, largest))))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("batch", "count", "dim"), [(1, 2, 3), (3, 2, 16), (2, 4, 5), (2, 5, 2)])
@pytest.mark.parametrize("theta", [0.05, 0.5])
@pytest.mark.parametrize("largest", [None, 5.0, 0.5])
def test_the_ranking_equals_a_slow_version(batch, count, dim, theta, largest):
    one, other = segments_of(batch, count, dim, 1), segments_of(batch, count, dim, 2)
    loss = segment_ranking(twin_logits(one, other, theta), largest_margin=largest)
    assert loss.item() == pytest.approx(slow_ranking(one, other, theta, largest), rel=1e-9)


def test_pairs_that_are_wrong_by_more_than_the_bound_teach_nothing():
    # Each segment shows in the other clip as the other one: all margins but those to the own clip are far too large.
    one = torch.eye(2, dtype=torch.float64).unsqueeze(0).requires_grad_()
    bounded = segment_ranking(twin_logits(one, one.detach().flip(1), 0.05), largest_margin=5.0)
    (gradient,) = torch.autograd.grad(bounded, one)
    free = segment_ranking(twin_logits(one, one.detach().flip(1), 0.05))
    (free_gradient,) = torch.autograd.grad(free, one)
    assert gradient.norm() < 0.5 * free_gradient.norm()
    assert bounded < free


def test_the_loss_falls_when_twins_move_closer():
    one, other = segments_of(3, 3, 8, 1), segments_of(3, 3, 8, 2)
    closer = functional.normalize(one + other, dim=2)
    assert segment_ranking(twin_logits(one, closer, 0.05)) < segment_ranking(twin_logits(one, other, 0.05))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_segments_of_shuffled_clips_come_back_to_their_places(count):
    orders = torch.tensor(list(itertools.permutations(range(count))))
    length = 3
    clips = torch.arange(count * length, dtype=torch.float64).repeat(len(orders), 1)[:, None, :, None, None]
    moved = reorder_chunks(clips, orders)
    # What stands for a segment: its own frames, read where they are shown.
    segments = moved.flatten(1).unflatten(1, (count, length))
    assert torch.equal(in_first_order(segments, orders), clips.flatten(1).unflatten(1, (count, length)))
    for order, shown, restored in zip(orders, segments, in_first_order(segments, orders), strict=True):
        for place, segment in enumerate(order):
            assert torch.equal(restored[segment], shown[place])
