import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from engine.knn import knn_votes


def drawn(seed, classes=4):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=36)])
    return rng.normal(size=(15, 6)) + 0.4, rng.normal(size=(40, 6)) + 0.4, labels


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("k", [1, 10])
def test_votes_are_scikit_learns_weighted_neighbours(centre, k):
    query, gallery, labels = drawn(3)
    mean = gallery.mean(axis=0) if centre else np.zeros(6)
    theirs = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(gallery - mean, labels)
    votes = knn_votes(
        torch.from_numpy(query),
        torch.from_numpy(gallery),
        torch.from_numpy(labels),
        num_classes=4,
        neighbours=k,
        mean=torch.from_numpy(mean) if centre else None,
        chunk=4,
    )
    ours = (votes / votes.sum(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(query - mean), atol=1e-6)


def test_float32_features_give_the_same_votes_for_any_chunk():
    query, gallery, labels = drawn(1)
    given = (torch.from_numpy(query).float(), torch.from_numpy(gallery).float(), torch.from_numpy(labels))
    whole, parts = (knn_votes(*given, num_classes=4, chunk=chunk) for chunk in (100, 1))
    torch.testing.assert_close(whole, parts, rtol=1e-12, atol=0)


def test_a_gallery_smaller_than_k_votes_as_a_whole():
    votes = knn_votes(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), num_classes=3, temperature=1.0)
    expected = torch.tensor([[np.e, 1.0, 0.0], [1.0, np.e, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(votes, expected)


@pytest.mark.parametrize("k", [1, 5, 100])
def test_a_video_that_is_left_out_has_no_voice_in_its_own_class(k):
    _, gallery, labels = drawn(7)
    features, classes = torch.from_numpy(gallery), torch.from_numpy(labels)
    given = {"num_classes": 4, "neighbours": k}
    votes = knn_votes(features, features, classes, **given, chunk=7, leave_one_out=True)
    for row in range(len(features)):
        others = torch.arange(len(features)) != row
        expected = knn_votes(features[[row]], features[others], classes[others], **given)
        torch.testing.assert_close(votes[[row]], expected, rtol=1e-12, atol=0)
