"""MoCo on clips: a query of one view against the key of the other and a queue of earlier keys.

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning" (arXiv 1911.05722), with the projector of
its second version (arXiv 2003.04297). B samples of this rank, K rows of the queue, D numbers an embedding.
"""

from __future__ import annotations

import torch

from models.backbone import Backbone
from models.encoder import Encoder
from models.heads.embedding import MLPHead
from models.losses.cross_view_nce import softmax_nce
from models.losses.queue_nce import queue_logits
from models.method import DatasetFacts, Method, MethodOutput
from models.metrics import contrast_metrics, feature_spread
from models.momentum_keys import MomentumKeys
from models.pending import Pending
from models.planners.single_clip import ClipDraw
from models.planners.views import AUGMENTED_CLIP, ViewsPlanner
from pipelines.batch import ViewBatch
from pipelines.plan import ClipFormat, Planner


class MoCo(Method):
    """MoCo; the defaults are those of its second version, for clips.

    Args:
        facts: nothing of them is used.
        backbone: encodes the queries.
        clip: how each view is drawn.
        same_frames: both views show the same frames; otherwise each has a time of its own.
        embedding_dim: D.
        hidden_dim: width of the projector's hidden layer; None for the backbone's.
        queue_size: K; at least the global batch.
        momentum: share of the old key network in the new one.
        temperature: T.
        symmetric: each view is query and key, instead of the first being the query; twice the encoding.
        seed: of the queue's first rows and of the shuffling of keys between ranks.
    """

    def __init__(
        self,
        facts: DatasetFacts,
        backbone: Backbone,
        *,
        clip: ClipDraw = AUGMENTED_CLIP,
        same_frames: bool = False,
        embedding_dim: int = 128,
        hidden_dim: int | None = None,
        queue_size: int = 16384,
        momentum: float = 0.999,
        temperature: float = 0.2,
        symmetric: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = MLPHead(
            backbone.out_dim, embedding_dim, hidden_dim=hidden_dim or backbone.out_dim, normalize=True
        )  # fmt: skip
        self.keys = MomentumKeys(
            self._encoder(),
            queue_size,
            embedding_dim,
            momentum=momentum,
            seed=seed,
            generator=torch.Generator().manual_seed(seed),
        )
        self.clip, self.same_frames, self.temperature, self.symmetric = clip, same_frames, temperature, symmetric
        self._pending = Pending()

    @property
    def clip_format(self) -> ClipFormat:
        """Two clips in [0, 1]."""
        return ClipFormat(2, self.clip.num_frames, self.clip.size, operations=self.clip.operations)

    def planner(self) -> Planner:
        """Draws both views."""
        return ViewsPlanner(self.clip, same_frames=self.same_frames)

    def forward(self, batch: ViewBatch) -> MethodOutput:
        """The contrast of the queries; keys wait for `after_step` to reach the queue."""
        pairs = [(0, 1), (1, 0)] if self.symmetric else [(0, 1)]
        keys = [self.keys.encode(batch.clips[key]) for _, key in pairs]
        features = [self.backbone.pooled(batch.clips[query]) for query, _ in pairs]
        queries = torch.cat([self.projector(one) for one in features])
        with torch.autocast(queries.device.type, enabled=False):
            logits = queue_logits(queries, torch.cat(keys), self.keys.queue.rows, temperature=self.temperature)
        # Of both views the keys of the second are queued, so that a row is one video.
        self._pending.add(batch, index=batch.index, keys=keys[0])
        metrics = contrast_metrics(logits, self.temperature)
        metrics["feature_spread"] = feature_spread(features[0])
        metrics["queue_age"] = self.keys.age(len(batch.index))
        metrics["key_distance"] = self.keys.encoder.distance(self._encoder())
        return MethodOutput({"contrast": softmax_nce(logits)}, metrics)

    def _encoder(self) -> Encoder:
        return Encoder(self.backbone, self.projector)

    @torch.no_grad()
    def after_step(self) -> None:
        """Queue the keys of all ranks, in rank order, and let the key network follow."""
        if pending := self._pending.take():
            self.keys.push(**pending)
            self.keys.follow(self._encoder())
