"""IIC on SimCLR: all clips of the global batch.

B samples of this rank, N of all ranks, D numbers an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.backbone import Backbone
from models.gather import gather_with_gradient, own_rows
from models.inter_intra.contrast import VIEWS, InterIntraContrast, projector, view_metrics
from models.losses.cross_view_nce import softmax_nce
from models.losses.nt_xent import nt_xent_logits
from models.method import MethodOutput
from pipelines.batch import ViewBatch


class BatchContrast(InterIntraContrast):
    """SimCLR: each view against all other clips of the global batch, the intra-negatives of all samples among them.

    All clips get gradients, the intra-negatives too, as all negatives of SimCLR do.

    Args:
        backbone: whose features are projected.
        dim: D, numbers an embedding.
        temperature: T.
    """

    def __init__(self, backbone: Backbone, *, dim: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.projector = projector(backbone, dim)

    def forward(self, backbone: Backbone, clips: Mapping[str, Tensor], batch: ViewBatch) -> MethodOutput:
        """Both view losses, with half the weight each: together they are SimCLR's mean over all clips."""
        names = (*VIEWS, "intra") if "intra" in clips else VIEWS
        features = {name: backbone.pooled(clips[name]) for name in names}
        gathered = gather_with_gradient(torch.stack([self.projector(one) for one in features.values()], dim=1))
        own = own_rows(gathered)
        with torch.autocast(gathered.device.type, enabled=False):
            both = nt_xent_logits(gathered[:, :2], self.temperature, own)
            num_inter = both.shape[1]
            if "intra" in clips:
                rows = gathered[own, :2].transpose(0, 1).flatten(0, 1)
                both = torch.cat([both, rows @ gathered[:, 2].T / self.temperature], dim=1)
                both = _own_first(both, num_inter, own)
        logits = dict(zip(VIEWS, both.chunk(2), strict=True))
        losses = {name: softmax_nce(values) / 2 for name, values in logits.items()}
        return MethodOutput(losses, view_metrics(logits, features["view1"], num_inter))

    def after_step(self, backbone: Backbone) -> None:
        """Nothing is remembered."""


def _own_first(logits: Tensor, start: int, own: slice) -> Tensor:
    """The columns from `start` on, which belong to the N samples, turned so that each row's own is the first."""
    size = logits.shape[1] - start
    samples = torch.arange(own.start, own.stop, device=logits.device).repeat(2)
    places = (samples.unsqueeze(1) + torch.arange(size, device=logits.device)) % size
    return torch.cat([logits[:, :start], logits[:, start:].gather(1, places)], dim=1)
