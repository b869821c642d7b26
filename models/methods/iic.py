"""IIC: inter-intra contrastive learning (Tao, Wang, Yamasaki, arXiv 2008.02531).

Two views of one clip, RGB and residual frames, are contrasted with each other; a third clip, whose temporal order is
destroyed, joins the negatives of both. One network encodes all three.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from models.backbone import Backbone
from models.inter_intra.bank import BankContrast
from models.inter_intra.batch import BatchContrast
from models.inter_intra.contrast import VIEWS, InterIntraContrast
from models.inter_intra.queue import QueueContrast
from models.memory_bank import BankPlacement
from models.method import DatasetFacts, Method, MethodOutput
from models.planners.single_clip import BankPlanner, ClipDraw, IntraNegative
from models.views import blurred, reorder_chunks, reorder_quadrants, repeat_frame, residual
from pipelines.batch import ViewBatch
from pipelines.plan import ClipFormat, Planner

Framework = Literal["bank", "moco", "simclr"]


class IIC(Method):
    """IIC; the defaults are the published ones, on memory banks.

    Features are not L2-normalised in the release, which makes the effective temperature depend on their length
    (``methods`` 4.3: lengths near 13 at the start); `normalize_features` is the clean form, and what small networks
    trained from random banks need.

    Args:
        facts: number of videos, which is the number of bank rows.
        backbone: encodes all views.
        framework: what views are compared with: bank, a stored feature of each video; moco, queues of keys of a slowly
            following network; simclr, all clips of the global batch.
        clip: how the clip is drawn.
        second_view: residual frames; rgb, with bank view 1 itself (the same features, as in the release), with moco and
            simclr the same frames cut and coloured once more; or flow-u or flow-v, a component of the stored optical
            flow of the same frames (`data.flow`).
        intra_negative: repeat one frame; shuffle (swap two of four chunks of time); quadrants (of every frame in
            another order) or blur (5 x 5 pixels), which the release holds but cannot reach; or none (plain contrast).
        num_negatives: K; with moco the keys of each queue; not used by simclr.
        temperature: T.
        bank_momentum: share of the old bank row in the new one.
        bank_placement: replicated, a whole bank on every rank; or sharded, each rank keeps its part, which trains the
            same (bank only).
        key_momentum: share of the old key network in the new one (moco).
        embedding_dim: numbers an embedding, behind a projector (moco, simclr; a bank compares the features).
        softmax: cross-entropy over all rows; otherwise the NCE form (bank only).
        normalize_features: L2-normalise features before they are compared and stored (bank; embeddings always are).
        seed: of banks, queues and the exchange of samples between ranks.
    """

    def __init__(
        self,
        facts: DatasetFacts,
        backbone: Backbone,
        *,
        framework: Framework = "bank",
        clip: ClipDraw = ClipDraw(),  # noqa: B008 - frozen
        second_view: Literal["residual", "rgb", "flow-u", "flow-v"] = "residual",
        intra_negative: IntraNegative = "repeat",
        num_negatives: int = 1024,
        temperature: float = 0.07,
        bank_momentum: float = 0.5,
        bank_placement: BankPlacement = "replicated",
        key_momentum: float = 0.999,
        embedding_dim: int = 128,
        softmax: bool = True,
        normalize_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check(clip, framework, second_view, intra_negative, num_negatives, softmax)
        if framework != "bank" and bank_placement != "replicated":
            raise ValueError(
                f"framework {framework} has no bank to be {bank_placement}: take framework bank, or leave "
                "bank_placement out"
            )
        self.backbone = backbone
        self.clip, self.second_view, self.framework = clip, second_view, framework
        self.compares_batch = framework == "simclr"
        self.intra_negative: IntraNegative = intra_negative
        self.num_rows, self.num_negatives = facts.num_samples, num_negatives
        intra = intra_negative != "none"
        self.contrast: InterIntraContrast
        if framework == "bank":
            self.contrast = BankContrast(
                facts.num_samples,
                backbone.out_dim,
                intra=intra,
                momentum=bank_momentum,
                temperature=temperature,
                softmax=softmax,
                normalize=normalize_features,
                placement=bank_placement,
                seed=seed,
            )
        elif framework == "moco":
            self.contrast = QueueContrast(
                backbone,
                num_keys=num_negatives,
                dim=embedding_dim,
                intra=intra,
                momentum=key_momentum,
                temperature=temperature,
                seed=seed,
            )
        else:
            self.contrast = BatchContrast(backbone, dim=embedding_dim, temperature=temperature)

    @property
    def clip_format(self) -> ClipFormat:
        """One clip in [0, 1], perhaps with its flow, or two; the other views are made from it on the device."""
        flow = self.second_view if self.second_view in ("flow-u", "flow-v") else None
        return ClipFormat(
            self._num_clips, self.clip.num_frames, self.clip.size, operations=self.clip.operations, flow=flow
        )  # fmt: skip

    @property
    def _num_clips(self) -> int:
        # On a bank the positive is what is remembered of the video; elsewhere it would be the very same clip.
        return 2 if self.second_view == "rgb" and self.framework != "bank" else 1

    def planner(self) -> Planner:
        """Draws the clip or two of it, for a bank K of its rows, and the intra-negative's frame or order."""
        num_negatives = self.num_negatives if self.framework == "bank" else 0
        return BankPlanner(self.clip, self.num_rows, num_negatives, self.intra_negative, self._num_clips)

    def forward(self, batch: ViewBatch) -> MethodOutput:
        """Both view losses."""
        given = dict(zip(VIEWS, batch.clips, strict=False))
        return self.contrast(self.backbone, given | self.derived(batch), batch)

    def derived(self, batch: ViewBatch) -> dict[str, Tensor]:
        """The residual view, and the clip whose order is destroyed."""
        clips, made = batch.clips[0], {}
        if self.second_view == "residual":
            made["view2"] = residual(clips)
        if self.intra_negative != "none":
            made["intra"] = self._destroy_order(clips, batch)
        return made

    def _destroy_order(self, clips: Tensor, batch: ViewBatch) -> Tensor:
        if self.intra_negative == "repeat":
            return repeat_frame(clips, batch.targets["intra_frame"])
        if self.intra_negative == "shuffle":
            return reorder_chunks(clips, batch.targets["intra_order"])
        if self.intra_negative == "quadrants":
            return reorder_quadrants(clips, batch.targets["intra_quadrants"])
        return blurred(clips)

    def after_step(self) -> None:
        """Bring banks or queues up to date."""
        self.contrast.after_step(self.backbone)


def _check(
    clip: ClipDraw, framework: Framework, second_view: str, intra: IntraNegative, num_negatives: int, softmax: bool
) -> None:
    """Refuse settings that contradict each other."""
    if intra == "shuffle" and clip.num_frames % 4:
        raise ValueError(f"intra_negative shuffle swaps quarters; {clip.num_frames} frames do not divide by 4")
    if intra == "quadrants" and clip.size % 2:
        raise ValueError(f"intra_negative quadrants needs an even size; {clip.size} pixels do not divide by 2")
    if num_negatives < 1:
        raise ValueError(f"num_negatives ({num_negatives}) must be at least 1: without any the loss is always 0")
    if framework != "bank" and second_view == "rgb" and not clip.varies:
        raise ValueError(
            f"second_view rgb on {framework} is the same frames cut and coloured once more, but clip has no room for "
            f"another crop (resize {clip.resize}, size {clip.size}), and no flip, turn or colour: the positive would "
            "be the same clip; give it some, or take residual, flow-u or flow-v"
        )
    if framework != "bank" and not softmax:
        raise ValueError(f"softmax false is a form of framework bank; {framework} has no such form")
