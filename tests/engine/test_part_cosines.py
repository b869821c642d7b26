import math

import pytest
import torch
from torch.nn.functional import cosine_similarity

from engine.part_cosines import part_cosines


def test_cosines_are_those_of_loops_over_videos_and_parts():
    parts = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1))
    within, between = part_cosines(parts)

    def cosine(one, other):
        return float(cosine_similarity(parts[one].double(), parts[other].double(), dim=0))

    for n in range(3):
        for m in range(3):
            expected = sum(cosine((b, n), (b, m)) for b in range(4)) / 4
            assert float(within[n, m]) == pytest.approx(expected, abs=1e-7)
    others = [cosine((b, n), (c, m)) for b in range(4) for c in range(4) if b != c for n in range(3) for m in range(3)]
    assert between == pytest.approx(sum(others) / len(others), abs=1e-7)


def test_videos_whose_parts_are_alike_and_that_differ_are_seen_as_such():
    videos = torch.eye(3)[:, None].repeat(1, 2, 1) * torch.tensor([1.0, 7.0])[None, :, None]
    within, between = part_cosines(videos)
    torch.testing.assert_close(within, torch.ones(2, 2, dtype=torch.float64))
    assert between == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(part_cosines(videos[:1])[1])
