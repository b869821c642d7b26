from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity as sklearn_cosine

from engine.retrieval import average_clips, cosine_similarity, topk_hits

VECTORS = Path(__file__).parents[3] / "shared/reference/vectors/iic/retrieval.npz"


def drawn(seed, queries=11, videos=17, dims=5, classes=3):
    rng = np.random.default_rng(seed)
    query, gallery = rng.normal(size=(queries, dims)), rng.normal(size=(videos, dims))
    labels = rng.integers(classes, size=queries), rng.integers(classes, size=videos)
    return [torch.from_numpy(value) for value in (query, labels[0], gallery, labels[1])]


def slow_hits(query, query_labels, gallery, gallery_labels, ks):
    similarity = sklearn_cosine(query.numpy(), gallery.numpy())
    hits = dict.fromkeys(ks, 0)
    for row, label in zip(similarity, query_labels.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda number: (-row[number], number))
        for k in ks:
            hits[k] += any(int(gallery_labels[number]) == label for number in order[:k])
    return hits


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), chunk=st.integers(1, 20))
def test_hits_are_those_of_a_sorted_list_for_any_chunk(seed, chunk):
    sample, ks = drawn(seed), (1, 2, 5, 50)
    assert topk_hits(*sample, ks, chunk=chunk) == slow_hits(*sample, ks)


def test_cosines_are_scikit_learns_also_after_centring():
    query, _, gallery, _ = drawn(0)
    mean = gallery.mean(dim=0)
    np.testing.assert_allclose(cosine_similarity(query, gallery), sklearn_cosine(query, gallery), atol=1e-12)
    centred = sklearn_cosine(query - mean, gallery - mean)
    np.testing.assert_allclose(cosine_similarity(query, gallery, mean=mean), centred, atol=1e-12)


def test_equal_cosines_go_to_the_earlier_gallery_video():
    gallery = torch.ones(4, 2)
    hits = topk_hits(torch.ones(1, 2), torch.tensor([7]), gallery, torch.tensor([1, 7, 7, 7]), (1, 2))
    assert hits == {1: 0, 2: 1}


@pytest.mark.skipif(not VECTORS.exists(), reason="the recorded retrieval is not beside this checkout")
def test_hits_are_the_recorded_ones_of_iic():
    recorded = np.load(VECTORS)
    query, gallery = (average_clips(torch.from_numpy(recorded[f"{split}_features"])) for split in ("test", "train"))
    labels = [torch.from_numpy(recorded[f"{split}_labels"]) for split in ("test", "train")]
    hits = topk_hits(query, labels[0], gallery, labels[1], recorded["ks"].tolist())
    assert list(hits.values()) == recorded["correct"].tolist()
    np.testing.assert_allclose(1 - cosine_similarity(query, gallery), recorded["cosine_distance"], atol=1e-12)
