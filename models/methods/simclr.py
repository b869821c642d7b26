"""SimCLR on clips: two views of a video against all other clips of the global batch (Chen et al., arXiv 2002.05709).

The baseline of contrastive learning without memories. B samples of this rank, N of all ranks, D numbers an embedding.
"""

from __future__ import annotations

import torch

from models.backbone import Backbone
from models.gather import gather_with_gradient, own_rows
from models.heads.embedding import MLPHead
from models.losses.cross_view_nce import softmax_nce
from models.losses.nt_xent import nt_xent_logits
from models.method import DatasetFacts, Method, MethodOutput
from models.metrics import contrast_metrics, feature_spread
from models.planners.single_clip import ClipDraw
from models.planners.views import AUGMENTED_CLIP, ViewsPlanner
from pipelines.batch import ViewBatch
from pipelines.plan import ClipFormat, Planner


class SimCLR(Method):
    """SimCLR; the defaults are those of the paper, for clips.

    Args:
        facts: nothing of them is used.
        backbone: encodes both views as one batch.
        clip: how each view is drawn.
        same_frames: both views show the same frames; otherwise each has a time of its own.
        embedding_dim: D.
        hidden_dim: width of the projector's hidden layer; None for the backbone's.
        temperature: T.
    """

    compares_batch = True

    def __init__(
        self,
        facts: DatasetFacts,
        backbone: Backbone,
        *,
        clip: ClipDraw = AUGMENTED_CLIP,
        same_frames: bool = False,
        embedding_dim: int = 128,
        hidden_dim: int | None = None,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = MLPHead(
            backbone.out_dim, embedding_dim, hidden_dim=hidden_dim or backbone.out_dim, normalize=True
        )  # fmt: skip
        self.clip, self.same_frames, self.temperature = clip, same_frames, temperature

    @property
    def clip_format(self) -> ClipFormat:
        """Two clips in [0, 1]."""
        return ClipFormat(2, self.clip.num_frames, self.clip.size, operations=self.clip.operations)

    def planner(self) -> Planner:
        """Draws both views."""
        return ViewsPlanner(self.clip, same_frames=self.same_frames)

    def forward(self, batch: ViewBatch) -> MethodOutput:
        """The contrast of this rank's 2B clips with all 2N."""
        features = self.backbone.pooled(torch.cat(batch.clips))
        views = self.projector(features).unflatten(0, (2, -1)).transpose(0, 1)
        gathered = gather_with_gradient(views.contiguous())
        with torch.autocast(views.device.type, enabled=False):
            logits = nt_xent_logits(gathered, self.temperature, own_rows(gathered))
        metrics = contrast_metrics(logits, self.temperature)
        metrics["feature_spread"] = feature_spread(features)
        return MethodOutput({"contrast": softmax_nce(logits)}, metrics)
