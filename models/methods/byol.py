"""BYOL on clips: the prediction of one view of a video for what a slow copy of the network makes of the other.

Grill et al., "Bootstrap Your Own Latent" (arXiv 2006.07733). B samples of this rank, D numbers a projection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.backbone import Backbone
from models.encoder import Encoder
from models.heads.embedding import MLPHead, unit_length
from models.losses.byol import symmetric_regression
from models.method import DatasetFacts, Method, MethodOutput
from models.metrics import feature_spread
from models.momentum import MomentumNetwork, MomentumSchedule, RisingMomentum
from models.planners.single_clip import ClipDraw
from models.planners.views import AUGMENTED_CLIP, ViewsPlanner
from pipelines.batch import ViewBatch
from pipelines.plan import ClipFormat, Planner


class BYOL(Method):
    """BYOL; the defaults are those of the paper, for clips, but for the momentum, which rises to 1 only if asked to.

    Args:
        facts: the length of the run, for a momentum that rises.
        backbone: encodes each view as a batch of its own.
        clip: how each view is drawn.
        same_frames: both views show the same frames; otherwise each has a time of its own.
        projection_dim: D.
        hidden_dim: width of the hidden layers of projector and predictor.
        batch_norm: normalise the hidden layers over the batch. Without it the method may collapse.
        momentum: share of the old target network in the new one.
        momentum_schedule: constant; cosine lets it rise to 1 at the end of the run, as in the paper.
    """

    def __init__(
        self,
        facts: DatasetFacts,
        backbone: Backbone,
        *,
        clip: ClipDraw = AUGMENTED_CLIP,
        same_frames: bool = False,
        projection_dim: int = 256,
        hidden_dim: int = 4096,
        batch_norm: bool = True,
        momentum: float = 0.996,
        momentum_schedule: MomentumSchedule = "constant",
    ) -> None:
        super().__init__()
        sizes = {"hidden_dim": hidden_dim, "batch_norm": batch_norm}
        self.backbone = backbone
        self.projector = MLPHead(backbone.out_dim, projection_dim, **sizes)
        self.predictor = MLPHead(projection_dim, projection_dim, **sizes)
        self.target = MomentumNetwork(self._encoder(), momentum=momentum)
        rises = momentum_schedule == "cosine"
        self.rise = RisingMomentum(momentum, num_steps=facts.num_steps) if rises else None
        self.clip, self.same_frames = clip, same_frames

    @property
    def clip_format(self) -> ClipFormat:
        """Two clips in [0, 1]."""
        return ClipFormat(2, self.clip.num_frames, self.clip.size, operations=self.clip.operations)

    def planner(self) -> Planner:
        """Draws both views."""
        return ViewsPlanner(self.clip, same_frames=self.same_frames)

    def forward(self, batch: ViewBatch) -> MethodOutput:
        """Both predictions; no clip is compared with another video's, so nothing is gathered."""
        features = [self.backbone.pooled(clips) for clips in batch.clips]
        one, other = (self.predictor(self.projector(feature)) for feature in features)
        targets = self.target(batch.clips[0]), self.target(batch.clips[1])
        loss = symmetric_regression((one, other), targets)
        metrics = {
            "positive_similarity": 1.0 - loss.detach() / 4.0,
            "negative_similarity": _between_videos(one.detach(), targets[1]),
            "feature_spread": feature_spread(features[0]),
            "target_distance": self.target.distance(self._encoder()),
        }
        if self.rise:
            metrics["target_momentum"] = self.rise.value()
        return MethodOutput({"regression": loss}, metrics)

    def _encoder(self) -> Encoder:
        return Encoder(self.backbone, self.projector)

    @torch.no_grad()
    def after_step(self) -> None:
        """Let the target network follow."""
        self.target.follow(self._encoder(), self.rise.take() if self.rise else None)


@torch.no_grad()
def _between_videos(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean cosine of predictions and other videos' targets, (): near that of the positives after a collapse."""
    cosines = unit_length(predictions) @ unit_length(targets).T
    count = len(cosines)
    return (cosines.sum() - cosines.diagonal().sum()) / max(1, count * (count - 1))
