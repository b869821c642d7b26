import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from engine.linear import fit_linear, probe_logits


def drawn(seed=0, videos=60, dims=7, classes=4):
    rng = np.random.default_rng(seed)
    labels = np.arange(videos) % classes
    features = rng.normal(size=(videos, dims)) + rng.normal(size=(classes, dims))[labels]
    return torch.from_numpy(features), torch.from_numpy(labels)


def objective(features, labels, weights, bias, l2):
    return float(functional.cross_entropy(features @ weights.T + bias, labels) + 0.5 * l2 * weights.square().sum())


def test_the_optimum_is_scikit_learns():
    (features, labels), l2 = drawn(), 1e-2
    weights, bias = fit_linear(features, labels, num_classes=4, l2=l2)
    # scikit-learn minimises C times the summed loss plus half the squared norm.
    theirs = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-10, max_iter=5000).fit(features, labels)
    their_weights, their_bias = torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_)
    ours = objective(features, labels, weights, bias, l2)
    assert abs(ours - objective(features, labels, their_weights, their_bias, l2)) < 1e-8
    np.testing.assert_allclose(weights, their_weights, atol=1e-5)
    logits, their_logits = features @ weights.T + bias, features @ their_weights.T + their_bias
    np.testing.assert_allclose(logits.softmax(1), their_logits.softmax(1), atol=1e-6)


def test_the_default_l2_reaches_a_vanishing_gradient():
    features, labels = drawn(1)
    weights, bias = fit_linear(features, labels, num_classes=4)
    weights.requires_grad_(True)
    loss = functional.cross_entropy(features @ weights.T + bias, labels) + 0.5 * 1e-3 * weights.square().sum()
    loss.backward()
    assert float(weights.grad.abs().max()) < 1e-6


def test_the_probe_is_blind_to_the_scale_and_offset_of_a_feature():
    (train, labels), (test, _) = drawn(), drawn(5)
    scale, offset = torch.logspace(-3, 3, 7, dtype=torch.float64), torch.arange(7.0, dtype=torch.float64)
    plain = probe_logits(train, labels, test, num_classes=4)
    moved = probe_logits(train * scale + offset, labels, test * scale + offset, num_classes=4)
    torch.testing.assert_close(moved, plain, rtol=0, atol=1e-5)


def test_a_feature_that_never_changes_does_no_harm():
    (train, labels), (test, _) = drawn(), drawn(5)
    constant = torch.full((60, 1), 3.0, dtype=torch.float64)
    plain = probe_logits(train, labels, test, num_classes=4)
    padded = probe_logits(
        torch.cat([train, constant], dim=1), labels, torch.cat([test, constant], dim=1), num_classes=4
    )
    torch.testing.assert_close(padded, plain, rtol=0, atol=1e-5)


def test_the_same_features_give_the_same_bits():
    features, labels = drawn()
    first, again = (fit_linear(features, labels, num_classes=4) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
