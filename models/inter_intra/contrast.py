"""What the ways to contrast IIC's views have in common.

Each takes the clips of one rank by name: view1; view2, absent where it is view 1; intra, view 1 with its order
destroyed, absent where there are no intra-negatives. B samples of this rank, M columns of logits, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.heads.embedding import MLPHead
from models.method import MethodOutput
from models.metrics import feature_spread
from pipelines.batch import ViewBatch

VIEWS: tuple[str, ...] = ("view1", "view2")
OTHER = {"view1": "view2", "view2": "view1"}


class InterIntraContrast(nn.Module, ABC):
    """Losses of both views, each against what is known of the other view and of intra-negatives."""

    @abstractmethod
    def forward(self, backbone: Backbone, clips: Mapping[str, Tensor], batch: ViewBatch) -> MethodOutput:
        """Losses by view, and metrics; column 0 of all logits is the positive."""

    @abstractmethod
    def after_step(self, backbone: Backbone) -> None:
        """Bring memories up to date, after the optimizer's step; collective calls in rank order."""


def projector(backbone: Backbone, dim: int) -> MLPHead:
    """From pooled features to embeddings (B, dim) of length 1."""
    return MLPHead(backbone.out_dim, dim, hidden_dim=backbone.out_dim, normalize=True)


@torch.no_grad()
def view_metrics(logits: Mapping[str, Tensor], features: Tensor, num_inter: int) -> dict[str, Tensor]:
    """Per view: logits of the positive, of other videos and of the own intra-negative; whether the positive is found.

    Args:
        logits: (B, M) by view; behind column `num_inter` stand intra-negatives, the own one first.
        features: (B, D) of view 1.
        num_inter: columns of the positive and of other videos.
    """
    metrics = {}
    for name, values in logits.items():
        metrics[f"{name}_positive_logit"] = values[:, 0].mean()
        if num_inter > 1:
            metrics[f"{name}_negative_logit"] = values[:, 1:num_inter].mean()
        if values.shape[1] > num_inter:
            metrics[f"{name}_own_intra_logit"] = values[:, num_inter].mean()
        metrics[f"{name}_found"] = (values.argmax(dim=1) == 0).double().mean()
    metrics["feature_norm"] = features.norm(dim=1).mean()
    metrics["feature_spread"] = feature_spread(features)
    return metrics
