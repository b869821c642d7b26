"""Cross-entropy on labels: fine-tuning, linear probes, and what a network gives from first weights.

B samples of this rank.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from models.backbone import Backbone
from models.heads.classifiers import ClassifierHead
from models.method import Classifier, DatasetFacts, MethodOutput
from models.metrics import feature_spread
from models.planners.single_clip import ClipDraw
from models.planners.views import AUGMENTED_CLIP, ViewsPlanner
from models.views import residual
from pipelines.batch import ViewBatch
from pipelines.plan import ClipFormat, Planner


class Supervised(Classifier):
    """A classifier on the backbone, both trained.

    Args:
        facts: number of classes.
        backbone: encodes the clip.
        clip: how it is drawn.
        head: the classifier.
        dropout: share of what goes into it that is set to 0 in training.
        label_smoothing: share of the target that is spread over all classes.
        modality: what the backbone sees: rgb, or residual, each frame minus the one before, not scaled to [0, 1] (IIC's
            fine-tuning; its pretraining scales).
        mean: subtracted from clips in [0, 1], per channel; null for none. `intravid finetune` takes that of the weights
            it begins with.
        std: divided by, likewise.
        frozen: train the classifier alone, on a backbone in eval mode (a linear probe by gradient descent).
    """

    def __init__(
        self,
        facts: DatasetFacts,
        backbone: Backbone,
        *,
        clip: ClipDraw = AUGMENTED_CLIP,
        head: ClassifierHead = ClassifierHead(),  # noqa: B008 - frozen
        dropout: float = 0.5,
        label_smoothing: float = 0.0,
        modality: Literal["rgb", "residual"] = "rgb",
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        if facts.num_classes < 2:
            raise ValueError(
                f"supervised training needs labels of at least two classes, the videos have {facts.num_classes}; "
                "build the shards with labels, or take a self-supervised method"
            )
        self.backbone = backbone
        self.classifier = head.build(backbone.out_dim, facts.num_classes, dropout=dropout)
        self.clip, self.label_smoothing, self.modality, self.frozen = clip, label_smoothing, modality, frozen
        self._takes_maps = head.kind == "temporal"
        self._mean, self._std = mean or (0.0, 0.0, 0.0), std or (1.0, 1.0, 1.0)
        if frozen:
            backbone.requires_grad_(False).eval()

    @property
    def clip_format(self) -> ClipFormat:
        """One clip."""
        clip = self.clip
        return ClipFormat(1, clip.num_frames, clip.size, self._mean, self._std, operations=clip.operations)

    def planner(self) -> Planner:
        """Draws the clip, and gives its label."""
        return ViewsPlanner(self.clip, num_views=1, labelled=True)

    def logits(self, clips: Tensor) -> Tensor:
        """Scores (B, classes) of clips (B, C, T, H, W)."""
        return self._encoded(clips)[1]

    def train(self, mode: bool = True) -> Supervised:
        """As of any module; a frozen backbone stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, batch: ViewBatch) -> MethodOutput:
        """Cross-entropy of the classes."""
        (features, logits), labels = self._encoded(batch.clips[0]), batch.targets["label"]
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        metrics = {
            "accuracy": (logits.argmax(dim=1) == labels).double().mean(),
            "feature_spread": feature_spread(features),
        }
        return MethodOutput({"labels": loss}, metrics)

    def _encoded(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, out_dim) and scores (B, classes) of clips."""
        seen = residual(clips, rescale=False) if self.modality == "residual" else clips
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self.backbone(seen)
            features = maps.mean(dim=(2, 3, 4))
        return features, self.classifier(maps if self._takes_maps else features)
