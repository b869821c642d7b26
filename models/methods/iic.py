"""IIC: inter-intra contrastive learning on memory banks (Tao, Wang, Yamasaki, arXiv 2008.02531).

Two views of one clip, RGB and residual frames, are each scored against the other view's bank; a third clip whose
temporal order is destroyed feeds a bank of intra-negatives. One network encodes all three.

B samples of this rank, K negatives, D features, N training videos.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from models.backbone import Backbone
from models.gather import gather_rows
from models.losses.cross_view_nce import bank_logits, binary_nce, normalising_constant, softmax_nce
from models.memory_bank import MemoryBank
from models.method import DatasetFacts, Method, MethodOutput
from models.planners.single_clip import BankPlanner, ClipDraw, IntraNegative
from models.views import reorder_chunks, repeat_frame, residual
from pipelines.batch import ViewBatch
from pipelines.plan import ClipFormat, Planner


class IIC(Method):
    """IIC on memory banks; the defaults are the published ones.

    Features are not L2-normalised in the release, which makes the effective temperature depend on their length
    (``methods`` 4.3: lengths near 13 at the start); `normalize_features` is the clean form, and what small networks
    trained from random banks need.

    Args:
        facts: number of videos, which is the number of bank rows.
        backbone: encodes all views.
        clip: how the clip is drawn.
        second_view: residual frames; rgb (then view 2 is view 1: the same features); or flow-u or flow-v, a component
            of the stored optical flow of the same frames (`data.flow`).
        intra_negative: repeat one frame, shuffle (swap two of four chunks), or none (plain two-bank contrast).
        num_negatives: K.
        temperature: T.
        bank_momentum: share of the old bank row in the new one.
        softmax: cross-entropy over all rows; otherwise the NCE form, whose constants come from the first global batch.
        normalize_features: L2-normalise features before they are compared and stored.
        seed: of the banks' first rows.
    """

    def __init__(
        self,
        facts: DatasetFacts,
        backbone: Backbone,
        *,
        clip: ClipDraw = ClipDraw(),  # noqa: B008 - frozen
        second_view: Literal["residual", "rgb", "flow-u", "flow-v"] = "residual",
        intra_negative: IntraNegative = "repeat",
        num_negatives: int = 1024,
        temperature: float = 0.07,
        bank_momentum: float = 0.5,
        softmax: bool = True,
        normalize_features: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if intra_negative == "shuffle" and clip.num_frames % 4:
            raise ValueError(f"intra_negative shuffle swaps quarters; {clip.num_frames} frames do not divide by 4")
        if num_negatives < 1:
            raise ValueError(f"num_negatives ({num_negatives}) must be at least 1: without any the loss is always 0")
        self.backbone = backbone
        self.clip, self.second_view = clip, second_view
        self.intra_negative: IntraNegative = intra_negative
        self.num_rows, self.num_negatives, self.temperature = facts.num_samples, num_negatives, temperature
        self.softmax, self.normalize_features = softmax, normalize_features
        generator = torch.Generator().manual_seed(seed)
        names = ("view1", "view2") if intra_negative == "none" else ("view1", "view2", "intra")
        self.banks = torch.nn.ModuleDict(
            {
                name: MemoryBank(facts.num_samples, backbone.out_dim, momentum=bank_momentum, generator=generator)
                for name in names
            }
        )
        self.constants: Tensor
        self.register_buffer("constants", torch.full((2,), -1.0))  # Z of both views, -1 until known
        self._pending: dict[str, Tensor] = {}

    @property
    def clip_format(self) -> ClipFormat:
        """One clip in [0, 1], perhaps with its flow; the other views are made from it on the device."""
        flow = self.second_view if self.second_view in ("flow-u", "flow-v") else None
        return ClipFormat(1, self.clip.num_frames, self.clip.size, operations=self.clip.operations, flow=flow)

    def planner(self) -> Planner:
        """Draws the clip, K bank rows and the intra-negative's frame or order."""
        return BankPlanner(self.clip, self.num_rows, self.num_negatives, self.intra_negative)

    def forward(self, batch: ViewBatch) -> MethodOutput:
        """Both view losses; features wait for `after_step` to reach the banks."""
        clips, *flow = batch.clips
        view1 = self._encode(clips)
        if self.second_view == "rgb":
            view2 = view1
        else:
            view2 = self._encode(flow[0] if flow else residual(clips))
        features = {"view1": view1, "view2": view2}
        if self.intra_negative != "none":
            # Its features get no gradient, but batch norm sees the clip as in the release, third and in train mode.
            with torch.no_grad():
                features["intra"] = self._encode(self._destroy_order(clips, batch))
        rows = torch.cat([batch.index.unsqueeze(1), batch.targets["negatives"]], dim=1)
        logits = {
            "view1": self._logits(features["view1"], "view2", rows),
            "view2": self._logits(features["view2"], "view1", rows),
        }
        self._pending = {name: feature.detach() for name, feature in features.items()} | {"index": batch.index}
        losses = {name: self._loss(logits[name], which) for which, name in enumerate(("view1", "view2"))}
        return MethodOutput(losses, _metrics(logits, features))

    def _encode(self, clips: Tensor) -> Tensor:
        features = self.backbone.pooled(clips)
        features = features if features.dtype == torch.float64 else features.float()
        return functional.normalize(features, dim=1) if self.normalize_features else features

    def _destroy_order(self, clips: Tensor, batch: ViewBatch) -> Tensor:
        if self.intra_negative == "repeat":
            return repeat_frame(clips, batch.targets["intra_frame"])
        return reorder_chunks(clips, batch.targets["intra_order"])

    def _logits(self, features: Tensor, other: str, rows: Tensor) -> Tensor:
        """(B, 2(K+1)): rows of the other view's bank, then the same rows of the intra-negative bank."""
        compared = [self._bank(other).lookup(rows)]
        if self.intra_negative != "none":
            compared.append(self._bank("intra").lookup(rows))
        with torch.autocast(features.device.type, enabled=False):
            return bank_logits(features, torch.cat(compared, dim=1), self.temperature)

    def _bank(self, name: str) -> MemoryBank:
        bank = self.banks[name]
        assert isinstance(bank, MemoryBank)
        return bank

    def _loss(self, logits: Tensor, which: int) -> Tensor:
        if self.softmax:
            return softmax_nce(logits)
        if self.constants[which] < 0:
            everyone = gather_rows(normalising_constant(logits, self.num_rows).reshape(1))
            self.constants[which] = everyone.mean()
        return binary_nce(logits.exp() / self.constants[which].clone(), self.num_rows)

    @torch.no_grad()
    def after_step(self) -> None:
        """Update all banks with the features of all ranks, in rank order."""
        if not self._pending:
            return
        index = gather_rows(self._pending.pop("index"))
        for name, features in self._pending.items():
            self._bank(name).update(index, gather_rows(features))
        self._pending = {}


@torch.no_grad()
def _metrics(logits: dict[str, Tensor], features: dict[str, Tensor]) -> dict[str, Tensor]:
    """Per view: the positive's logit and how often it is the largest; length and spread of the features."""
    metrics = {}
    for name, values in logits.items():
        metrics[f"{name}_positive_logit"] = values[:, 0].mean()
        metrics[f"{name}_found"] = (values.argmax(dim=1) == 0).double().mean()
    metrics["feature_norm"] = features["view1"].norm(dim=1).mean()
    directions = functional.normalize(features["view1"], dim=1)
    # Near 0 all clips have the same feature: the network has collapsed.
    metrics["feature_spread"] = directions.std(dim=0, correction=0).mean() * directions.shape[1] ** 0.5
    return metrics
