"""Linear probe: multinomial logistic regression on frozen, standardised features; deterministic."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def fit_linear(
    features: Tensor, labels: Tensor, *, num_classes: int, l2: float = 1e-3, max_iterations: int = 500
) -> tuple[Tensor, Tensor]:
    """Weights (num_classes, D) and bias (num_classes,) that minimise mean cross-entropy + l2/2 * |weights|^2.

    L-BFGS from zero in float64; the problem is convex, so the result is the optimum whatever the order of the rows.

    Args:
        features: (N, D), standardised by the caller.
        labels: (N,) int64.
        num_classes: rows of the result.
        l2: weight of the squared norm; the bias is free.
        max_iterations: of L-BFGS.
    """
    x = features.double()
    weights = torch.zeros(num_classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, bias], max_iter=max_iterations, history_size=20, line_search_fn="strong_wolfe",
        tolerance_grad=1e-9, tolerance_change=1e-14,
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(x @ weights.T + bias, labels) + 0.5 * l2 * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach(), bias.detach()


def probe_logits(train: Tensor, train_labels: Tensor, test: Tensor, *, num_classes: int, l2: float = 1e-3) -> Tensor:
    """Class scores (Q, num_classes) for test features, by a probe trained on and standardised by the train features."""
    mean, spread = train.double().mean(dim=0), train.double().std(dim=0)
    # Features that never change carry nothing; dividing by their spread would give NaN.
    spread = torch.where(spread > 1e-12, spread, torch.ones_like(spread))
    weights, bias = fit_linear((train - mean) / spread, train_labels, num_classes=num_classes, l2=l2)
    return ((test - mean) / spread) @ weights.T + bias
