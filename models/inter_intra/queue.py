"""IIC on MoCo: queues of keys of a slowly following network.

B samples of this rank, K rows of each queue, D numbers an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.encoder import Encoder
from models.inter_intra.contrast import OTHER, VIEWS, InterIntraContrast, projector, view_metrics
from models.losses.cross_view_nce import softmax_nce
from models.losses.queue_nce import queue_logits
from models.method import MethodOutput
from models.momentum import MomentumNetwork
from models.pending import Pending
from models.queue import FeatureQueue
from models.shuffle import Shuffling
from pipelines.batch import ViewBatch


class QueueContrast(InterIntraContrast):
    """MoCo: each view's query against the other view's key and queue, and the intra-negative's key and queue.

    Args:
        backbone: is copied for the keys.
        num_keys: K of each queue; at least the global batch.
        dim: D, numbers an embedding.
        intra: whether there are intra-negatives.
        momentum: share of the old key network in the new one.
        temperature: T.
        seed: of the queues' first rows and of the exchange of samples between ranks.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_keys: int,
        dim: int,
        intra: bool,
        momentum: float,
        temperature: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.projector = projector(backbone, dim)
        self.keys = MomentumNetwork(Encoder(backbone, self.projector), momentum=momentum)
        self.shuffling = Shuffling(seed)
        generator = torch.Generator().manual_seed(seed)
        names = (*VIEWS, "intra") if intra else VIEWS
        self.queues = nn.ModuleDict({name: FeatureQueue(num_keys, dim, generator=generator) for name in names})
        self._pending = Pending()

    def forward(self, backbone: Backbone, clips: Mapping[str, Tensor], batch: ViewBatch) -> MethodOutput:
        """Both view losses; keys wait for `after_step` to reach the queues."""
        keys = {name: self.shuffling(self.keys, clips[name]) for name in self.queues}
        features = {name: backbone.pooled(clips[name]) for name in VIEWS}
        logits = {}
        for name, feature in features.items():
            query = self.projector(feature)
            with torch.autocast(query.device.type, enabled=False):
                parts = [self._logits(query, one, keys) for one in (OTHER[name], "intra") if one in keys]
                logits[name] = torch.cat(parts, dim=1)
        self._pending.add(batch, **keys)
        losses = {name: softmax_nce(values) for name, values in logits.items()}
        metrics = view_metrics(logits, features["view1"], 1 + len(self._queue("view1").rows))
        metrics["key_distance"] = self.keys.distance(Encoder(backbone, self.projector))
        return MethodOutput(losses, metrics)

    def _logits(self, query: Tensor, name: str, keys: Mapping[str, Tensor]) -> Tensor:
        return queue_logits(query, keys[name], self._queue(name).rows, temperature=self.temperature)

    def _queue(self, name: str) -> FeatureQueue:
        queue = self.queues[name]
        assert isinstance(queue, FeatureQueue)
        return queue

    @torch.no_grad()
    def after_step(self, backbone: Backbone) -> None:
        """Queue the keys of all ranks, in rank order, and let the key network follow."""
        if not (pending := self._pending.take()):
            return
        for name, keys in pending.items():
            self._queue(name).push(keys)
        self.keys.follow(Encoder(backbone, self.projector))
