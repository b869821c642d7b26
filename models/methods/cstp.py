"""CSTP: BYOL beside pretext tasks on two clips that overlap in space and time (Zhang et al., arXiv 2112.08913).

Two clips of a video share a known part of their boxes and of their spans, and one playback rate; each is turned on its
own. Heads on the features of both name the two overlaps, heads on each clip's its rate and its turn, and BYOL pulls the
clips together. All tasks train one network.

B samples of this rank, C features.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_process.errors import InputError
from models.backbone import Backbone
from models.backbones._initial import draw_as
from models.heads.embedding import MLPHead, unit_length
from models.losses.byol import regression, symmetric_regression
from models.method import DatasetFacts, Method, MethodOutput
from models.metrics import feature_spread
from models.momentum import MomentumNetwork, MomentumSchedule, RisingMomentum
from models.planners.overlap import OverlapPlanner
from models.recall import RunningRecalls
from pipelines.batch import ViewBatch
from pipelines.draw import RATES
from pipelines.plan import ClipFormat, Planner

_PAIRED = ("spatial", "temporal")
"""Tasks that are asked of both clips together."""


@dataclass(frozen=True)
class TaskWeights:
    """Weight of each task in the sum; a task of weight 0 is left out with its head.

    Attributes:
        byol: prediction of the other clip's projection, both ways added.
        spatial: rate by which the boxes overlap.
        temporal: rate by which the spans overlap.
        playback: playback rate, both clips added.
        rotation: quarter turns, both clips added.
    """

    byol: float = 0.1
    spatial: float = 1.0
    temporal: float = 1.0
    playback: float = 1.0
    rotation: float = 1.0

    def __post_init__(self) -> None:
        weights = asdict(self)
        if min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError(f"weights must not be negative, and one of them positive; got {weights}")

    @property
    def pretext(self) -> dict[str, float]:
        """Pretext tasks that are trained, by name."""
        return {name: weight for name, weight in asdict(self).items() if weight and name != "byol"}


class CSTP(Method):
    """CSTP; the defaults are the published ones for R(2+1)D.

    Against the release, overlap labels are equally frequent and describe shared content (`clip`), the target starts as
    a copy of the network that it follows, and scales of batch norms start at 1.

    Args:
        facts: the length of the run, for a momentum that rises.
        backbone: of both clips; the target is a second one.
        clip: how the pairs are drawn, augmented and labelled.
        weights: of the five losses.
        projector_dim: hidden width of the projector in front of BYOL's loss; null for none (C3D, R3D, I3D).
        predictor_dim: hidden width of the predictor.
        mlp_heads: pretext heads of two layers with a batch norm; single layers otherwise (C3D, R3D, I3D).
        momentum: of the target.
        momentum_schedule: constant, as in the release; cosine lets it rise to 1 at the end of the run, as in BYOL's
            paper.
        normalize_features: scale features to length 1 in front of all heads (I3D).
        legacy_classes: give playback and rotation heads of two layers five outputs, of which one is never right.
        legacy_init: draw all first weights as the release does: scales of batch norms around 0, and a target that is
            no copy.
    """

    def __init__(
        self,
        facts: DatasetFacts,
        backbone: Backbone,
        *,
        clip: OverlapPlanner = OverlapPlanner(),  # noqa: B008 - frozen
        weights: TaskWeights = TaskWeights(),
        projector_dim: int | None = 4096,
        predictor_dim: int = 4096,
        mlp_heads: bool = True,
        momentum: float = 0.996,
        momentum_schedule: MomentumSchedule = "constant",
        normalize_features: bool = False,
        legacy_classes: bool = False,
        legacy_init: bool = False,
    ) -> None:
        super().__init__()
        _check(weights, clip, momentum_schedule)
        self.clip, self.weights, self.normalize_features = clip, weights, normalize_features
        self.backbone = backbone
        width = backbone.out_dim
        labels = {"spatial": len(RATES), "temporal": len(RATES), "playback": len(clip.temporal.rates), "rotation": 4}
        self.heads = nn.ModuleDict()
        for name in weights.pretext:
            inputs = 2 * width if name in _PAIRED else width
            outputs = max(labels[name], 5) if legacy_classes and mlp_heads else labels[name]
            self.heads[name] = _head(inputs, outputs, inputs if mlp_heads else None)
        self.recalls = RunningRecalls({name: labels[name] for name in weights.pretext})
        if weights.byol:
            self.projector = nn.Identity() if projector_dim is None else _head(width, width, projector_dim)
            self.predictor = _head(width, width, predictor_dim)
            self.target_backbone = MomentumNetwork(backbone, momentum=momentum)
            self.target_projector = MomentumNetwork(self.projector, momentum=momentum)
        rises = momentum_schedule == "cosine"
        self.rise = RisingMomentum(momentum, num_steps=facts.num_steps) if rises else None
        if legacy_init:
            draw_as("cstp", self)
            self._follow()  # the release follows in front of each forward pass, here behind each step: one more

    @property
    def clip_format(self) -> ClipFormat:
        """Two clips, levels scaled to -1..1."""
        half = (0.5, 0.5, 0.5)
        return ClipFormat(
            2, self.clip.num_frames, self.clip.size, mean=half, std=half, operations=self.clip.operations
        )  # fmt: skip

    def planner(self) -> Planner:
        """Draws the two clips and the labels that follow from them."""
        return self.clip

    def forward(self, batch: ViewBatch) -> MethodOutput:
        """The losses of all tasks; what heads named right waits for `after_step`.

        Raises:
            InputError: in training on a single sample, which the heads' batch norms cannot normalise.
        """
        if self.training and len(batch) < 2 and any(isinstance(one, nn.BatchNorm1d) for one in self.modules()):
            raise InputError(
                "the heads of CSTP normalise over a rank's samples and got a single one; expected 2 or more: raise "
                "train.global_batch, or use fewer ranks"
            )
        # Two passes, so that batch norms see one clip of each video, as in the release.
        features = tuple(self._features(clips) for clips in batch.clips)
        losses: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {"feature_spread": feature_spread(features[0])}
        if self.weights.byol:
            losses["byol"], similarity = self._byol(features, batch)
            metrics |= similarity
        for name, weight in self.weights.pretext.items():
            answers, labels = self._answers(name, features, batch)
            # A mean over both clips of a sample, times the number of clips: their sum.
            clips = len(answers) // len(batch)
            losses[name] = weight * clips * functional.cross_entropy(answers, labels)
            metrics |= self._observed(name, answers, labels, continues=batch.continues)
        return MethodOutput(losses, metrics)

    def _features(self, clips: Tensor) -> Tensor:
        features = self.backbone.pooled(clips)
        return unit_length(features) if self.normalize_features else _single(features)

    @torch.no_grad()
    def _target(self, clips: Tensor) -> Tensor:
        features = self.target_backbone(clips).mean(dim=(2, 3, 4))
        return self.target_projector(unit_length(features) if self.normalize_features else features)

    def _byol(self, features: tuple[Tensor, ...], batch: ViewBatch) -> tuple[Tensor, dict[str, Tensor]]:
        first, second = (self.predictor(self.projector(one)) for one in features)
        targets = self._target(batch.clips[0]), self._target(batch.clips[1])
        loss = self.weights.byol * symmetric_regression((first, second), targets)
        with torch.no_grad():
            apart = regression(first, targets[1].roll(1, dims=0))
            own = regression(first, targets[1])
        metrics = {
            "positive_similarity": 1.0 - own / 2.0,
            "negative_similarity": 1.0 - apart / 2.0,  # of another video; near the positive one all are alike
            "target_spread": feature_spread(targets[0]),
        }
        if self.rise:
            metrics["target_momentum"] = self.rise.value()
        return loss, metrics

    def _answers(self, name: str, features: tuple[Tensor, ...], batch: ViewBatch) -> tuple[Tensor, Tensor]:
        """Logits and labels, of B pairs for overlaps and of 2B clips otherwise, the first clips' first."""
        head, targets = self.heads[name], batch.targets
        if name in _PAIRED:
            return _single(head(torch.cat(features, dim=1))), targets[name]
        logits = torch.cat([_single(head(one)) for one in features])
        if name == "rotation":
            return logits, targets["turns"].T.flatten()
        return logits, targets["playback"].repeat(2)

    def _observed(self, name: str, logits: Tensor, labels: Tensor, *, continues: bool) -> dict[str, Tensor]:
        """Accuracy in this batch, balanced accuracy over the last ones, and how frequent each overlap's label is."""
        recall = self.recalls.observe(name, logits, labels, continues=continues)
        metrics = {f"{name}_accuracy": recall.accuracy, f"{name}_balanced": recall.balanced}
        if name in _PAIRED:
            shares = zip(RATES, recall.shares, strict=True)
            metrics |= {f"{name}_share_{round(100 * rate)}": share for rate, share in shares}
        return metrics

    def after_step(self) -> None:
        """Let the target follow, and keep the counts of right answers of all ranks."""
        self._follow(self.rise.take() if self.rise else None)
        self.recalls.keep()

    def _follow(self, momentum: Tensor | None = None) -> None:
        if self.weights.byol:
            self.target_backbone.follow(self.backbone, momentum)
            self.target_projector.follow(self.projector, momentum)


def _check(weights: TaskWeights, clip: OverlapPlanner, schedule: MomentumSchedule) -> None:
    if schedule != "constant" and not weights.byol:
        raise ValueError(
            f"momentum_schedule {schedule} is about the target of BYOL, and weights.byol 0 leaves BYOL out; leave it "
            "constant"
        )
    if weights.rotation and not clip.turn:
        raise ValueError(
            "without turned clips (clip.turn false) no head can learn to tell turns; set weights.rotation 0"
        )
    if weights.playback and len(clip.temporal.rates) < 2:
        raise ValueError(
            f"with the one rate {clip.temporal.rates} no head can learn to tell rates; set weights.playback 0"
        )


def _head(inputs: int, outputs: int, hidden: int | None) -> MLPHead:
    return MLPHead(inputs, outputs, hidden_dim=hidden, batch_norm=hidden is not None)


def _single(values: Tensor) -> Tensor:
    """At least float32, under autocast too."""
    return values if values.dtype == torch.float64 else values.float()
