"""The interface of a self-supervised method: which clips it wants, what it learns from them, what it reports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from models.backbone import Backbone
from pipelines.batch import ViewBatch
from pipelines.plan import ClipFormat, Planner


@dataclass(frozen=True)
class DatasetFacts:
    """What a method may know about the data that it is trained on, and for how long.

    Attributes:
        num_samples: videos in the training split; sample indices run from 0 to num_samples - 1.
        num_classes: classes of the labels, 0 where unlabelled.
        num_steps: of the run, for what changes over it; 0 where no run is planned.
    """

    num_samples: int
    num_classes: int = 0
    num_steps: int = 0


@dataclass(frozen=True)
class MethodOutput:
    """What one step gives.

    Attributes:
        losses: name to weighted scalar with graph; the step minimises their sum.
        metrics: name to detached scalar tensor; means over the rank's part of the batch.
    """

    losses: Mapping[str, Tensor]
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """A self-supervised method over a backbone.

    All state that must survive a restart lives in parameters and buffers. `forward` is the only place that builds a
    graph; `after_step` runs once after the optimizer's step and updates memories and targets, the same on all ranks.
    With gradient accumulation `forward` runs several times before it, on micro-batches (`models.pending`).

    Attributes:
        backbone: what is kept after pretraining.
        compares_batch: whether the loss of a sample depends on the others of its batch, so that it is another one where
            a batch is cut into micro-batches.
    """

    backbone: Backbone
    compares_batch: bool = False

    @property
    @abstractmethod
    def clip_format(self) -> ClipFormat:
        """Views, frames, size, normalisation and operations of the clips that the planner draws."""

    @abstractmethod
    def planner(self) -> Planner:
        """The function that draws one sample; picklable and free of torch."""

    @abstractmethod
    def forward(self, batch: ViewBatch) -> MethodOutput:
        """Losses and metrics of one rank's part of the batch."""

    @property
    def mixes_samples(self) -> bool:
        """Whether what `derived` makes of a sample depends on other samples of the global batch."""
        return False

    def derived(self, batch: ViewBatch) -> Mapping[str, Tensor]:
        """Clips (B, C, T, H, W) that `forward` makes of a batch's before it encodes them, by name; for pictures too."""
        return {}

    def parts(self, batch: ViewBatch) -> Mapping[str, Tensor]:
        """Embeddings (B, D) of the parts of a sample that the method tells apart, by name in their order; for pictures.

        Empty for a method that compares whole clips alone. Nothing of the method changes by it.
        """
        return {}

    def after_step(self) -> None:
        """Update banks, queues or targets after the optimizer's step; collective calls in rank order."""


class Classifier(Method):
    """A method whose network tells the class of a clip, so that `intravid test` can judge it."""

    @abstractmethod
    def logits(self, clips: Tensor) -> Tensor:
        """Scores (B, classes) of clips (B, C, T, H, W), as `clip_format` describes them but of any length and size."""
