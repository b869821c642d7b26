"""Cross-entropy on labels: what the same network and the same clips give where labels are known.

B samples of this rank.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from models.backbone import Backbone
from models.heads.classifiers import LinearClassifier
from models.method import Classifier, DatasetFacts, MethodOutput
from models.metrics import feature_spread
from models.planners.single_clip import ClipDraw
from models.planners.views import AUGMENTED_CLIP, ViewsPlanner
from pipelines.batch import ViewBatch
from pipelines.plan import ClipFormat, Planner


class Supervised(Classifier):
    """A classifier on the backbone, both trained.

    Args:
        facts: number of classes.
        backbone: encodes the clip.
        clip: how it is drawn.
        dropout: share of pooled features set to 0.
        label_smoothing: share of the target that is spread over all classes.
    """

    def __init__(
        self,
        facts: DatasetFacts,
        backbone: Backbone,
        *,
        clip: ClipDraw = AUGMENTED_CLIP,
        dropout: float = 0.5,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if facts.num_classes < 2:
            raise ValueError(
                f"supervised training needs labels of at least two classes, the videos have {facts.num_classes}; "
                "build the shards with labels, or take a self-supervised method"
            )
        self.backbone = backbone
        self.classifier = LinearClassifier(backbone.out_dim, facts.num_classes, dropout=dropout)
        self.clip, self.label_smoothing = clip, label_smoothing

    @property
    def clip_format(self) -> ClipFormat:
        """One clip in [0, 1]."""
        return ClipFormat(1, self.clip.num_frames, self.clip.size, operations=self.clip.operations)

    def planner(self) -> Planner:
        """Draws the clip, and gives its label."""
        return ViewsPlanner(self.clip, num_views=1, labelled=True)

    def logits(self, clips: Tensor) -> Tensor:
        """Scores (B, classes) of clips (B, C, T, H, W)."""
        return self.classifier(self.backbone.pooled(clips))

    def forward(self, batch: ViewBatch) -> MethodOutput:
        """Cross-entropy of the classes."""
        features, labels = self.backbone.pooled(batch.clips[0]), batch.targets["label"]
        logits = self.classifier(features)
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        metrics = {
            "accuracy": (logits.argmax(dim=1) == labels).double().mean(),
            "feature_spread": feature_spread(features),
        }
        return MethodOutput({"labels": loss}, metrics)
