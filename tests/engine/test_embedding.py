import numpy as np
import pytest
import torch

from engine import embedding
from engine.embedding import embed


def groups(count=12):
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(3, 16).repeat_interleave(count, dim=0)
    return centres + 0.03 * torch.randn(len(centres), 16, generator=generator), np.arange(3).repeat(count)


def nearest_is_of_the_same_group(points, kinds):
    distances = np.square(points[:, None] - points[None]).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    return kinds[distances.argmin(axis=1)] == kinds


@pytest.mark.parametrize("method", ["t-SNE", "principal components"])
def test_like_features_lie_together_and_the_same_ones_in_the_same_place(monkeypatch, method):
    if method == "t-SNE":
        pytest.importorskip("sklearn", reason="scikit-learn (the extra `report`) is not installed")
    else:
        monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    features, kinds = groups()
    points, placed_by = embed(features)
    assert placed_by == method
    assert points.shape == (36, 2)
    assert (points.min(), points.max()) == (0.0, 1.0)
    assert nearest_is_of_the_same_group(points, kinds).all()
    assert np.array_equal(points, embed(4.0 * features)[0])  # lengths do not count


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_clips_have_places_too(count):
    points, placed_by = embed(torch.randn(count, 4, generator=torch.Generator().manual_seed(1)))
    assert placed_by == "principal components"
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
