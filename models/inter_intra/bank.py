"""IIC on memory banks, as published.

B samples of this rank, K negatives, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.backbone import Backbone
from models.gather import gather_rows
from models.inter_intra.contrast import OTHER, VIEWS, InterIntraContrast, view_metrics
from models.losses.cross_view_nce import binary_nce, normalising_constant, softmax_nce
from models.memory_bank import BankPlacement, MemoryBank
from models.method import MethodOutput
from models.pending import Pending
from models.row_exchange import DrawnRows
from models.sharded_bank import ShardedBank, build_bank
from pipelines.batch import ViewBatch


class BankContrast(InterIntraContrast):
    """Memory banks, as published: the other view's rows, then the same rows of the intra-negatives' bank.

    Batches carry the target ``negatives`` (B, K). The intra-negative's features only feed their bank.

    Args:
        num_rows: training videos.
        dim: D.
        intra: whether there are intra-negatives.
        momentum: share of the old bank row in the new one.
        temperature: T.
        softmax: cross-entropy over all rows; otherwise the NCE form, whose constants come from the first global batch.
        normalize: L2-normalise features before they are compared and stored.
        placement: replicated, a whole bank on every rank; or sharded, each rank keeps its part.
        seed: of the banks' first rows.
    """

    constants: Tensor

    def __init__(
        self,
        num_rows: int,
        dim: int,
        *,
        intra: bool,
        momentum: float,
        temperature: float,
        softmax: bool,
        normalize: bool,
        placement: BankPlacement,
        seed: int,
    ) -> None:
        super().__init__()
        self.num_rows, self.temperature, self.softmax, self.normalize = num_rows, temperature, softmax, normalize
        generator = torch.Generator().manual_seed(seed)
        self.banks = nn.ModuleDict(
            {
                name: build_bank(placement, num_rows, dim, momentum=momentum, generator=generator)
                for name in ((*VIEWS, "intra") if intra else VIEWS)
            }
        )
        self.register_buffer("constants", torch.full((2,), -1.0))  # Z of both views, -1 until known
        self._pending = Pending()

    def forward(self, backbone: Backbone, clips: Mapping[str, Tensor], batch: ViewBatch) -> MethodOutput:
        """Both view losses; features wait for `after_step` to reach the banks."""
        rows = torch.cat([batch.index.unsqueeze(1), batch.targets["negatives"]], dim=1)
        drawn = self._bank("view1").find(rows)  # before the networks: where banks are sharded, it waits for the device
        features = {name: self._encode(backbone, clips[name]) for name in VIEWS if name in clips}
        features.setdefault("view2", features["view1"])
        if "intra" in clips:
            # Its features get no gradient, but batch norm sees the clip as in the release, third and in train mode.
            with torch.no_grad():
                features["intra"] = self._encode(backbone, clips["intra"])
        logits = {name: self._logits(features[name], OTHER[name], drawn) for name in VIEWS}
        self._pending.add(batch, index=batch.index, **features)
        losses = {name: self._loss(logits[name], which) for which, name in enumerate(VIEWS)}
        return MethodOutput(losses, view_metrics(logits, features["view1"], rows.shape[1]))

    def _encode(self, backbone: Backbone, clips: Tensor) -> Tensor:
        features = backbone.pooled(clips)
        features = features if features.dtype == torch.float64 else features.float()
        return functional.normalize(features, dim=1) if self.normalize else features

    def _logits(self, features: Tensor, other: str, drawn: DrawnRows) -> Tensor:
        """(B, K + 1), or (B, 2(K + 1)) with intra-negatives."""
        with torch.autocast(features.device.type, enabled=False):
            scores = [self._bank(name).scores(features, drawn) for name in (other, "intra") if name in self.banks]
            return torch.cat(scores, dim=1) / self.temperature

    def _bank(self, name: str) -> MemoryBank | ShardedBank:
        bank = self.banks[name]
        assert isinstance(bank, MemoryBank | ShardedBank)
        return bank

    def _loss(self, logits: Tensor, which: int) -> Tensor:
        if self.softmax:
            return softmax_nce(logits)
        if self.constants[which] < 0:
            everyone = gather_rows(normalising_constant(logits, self.num_rows).reshape(1))
            self.constants[which] = everyone.mean()
        return binary_nce(logits.exp() / self.constants[which].clone(), self.num_rows)

    @torch.no_grad()
    def after_step(self, backbone: Backbone) -> None:
        """Update all banks with the features of all ranks, in rank order."""
        if not (pending := self._pending.take()):
            return
        index = gather_rows(pending.pop("index"))
        for name, features in pending.items():
            self._bank(name).update(index, gather_rows(features))
