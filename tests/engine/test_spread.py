import pytest
import torch
from torch.nn import functional

from engine.spread import clip_spread


def slow_parts(features, videos, labels):
    """By loops over the clips."""
    unit = [row / row.norm() for row in features.double()]
    mean_of = lambda rows: torch.stack(rows).mean(dim=0)  # noqa: E731
    of_video = {v: mean_of([u for u, w in zip(unit, videos, strict=True) if w == v]) for v in set(videos)}
    of_class = {c: mean_of([u for u, d in zip(unit, labels, strict=True) if d == c]) for c in set(labels)}
    of_all = mean_of(unit)
    pairs = list(zip(unit, videos, labels, strict=True))
    return [
        sum(float((one - other).square().sum()) for one, other in distances) / len(unit)
        for distances in (
            [(u, of_video[v]) for u, v, _ in pairs],
            [(of_video[v], of_class[c]) for _, v, c in pairs],
            [(of_class[c], of_all) for _, _, c in pairs],
        )
    ]


def test_parts_are_those_of_loops_and_add_up_to_the_variance():
    generator = torch.Generator().manual_seed(0)
    videos = [0, 0, 0, 1, 1, 2, 3, 3, 3, 3]  # not all have as many clips
    labels = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    features = torch.randn(len(videos), 6, generator=generator)
    spread = clip_spread(features, torch.tensor(videos), torch.tensor(labels))
    found = [spread.within_videos, spread.between_videos, spread.between_classes]
    assert found == pytest.approx(slow_parts(features, videos, labels), rel=1e-12)
    unit = functional.normalize(features.double(), dim=1)
    assert spread.total == pytest.approx(float((unit - unit.mean(dim=0)).square().sum(dim=1).mean()), rel=1e-12)


def test_clips_that_are_all_alike_within_a_video_have_no_inner_variance():
    rows = torch.eye(3).repeat_interleave(4, dim=0)
    videos = torch.arange(3).repeat_interleave(4)
    spread = clip_spread(7.0 * rows, videos, torch.zeros(12, dtype=torch.int64))
    assert spread.within_videos == 0.0
    assert spread.between_classes == 0.0
    assert spread.between_videos == pytest.approx(2 / 3)
