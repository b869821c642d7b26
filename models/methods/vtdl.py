"""VTDL: telling moments of a video apart (Wang, Lin, Ma, Yuen, arXiv 2008.02129).

Anchor and positive show the same frames under changes of their own, the negative another time of the same video. The
anchor's feature is drawn to that of the positive, which a slowly following network encodes, and away from a queue of
other videos and from the negative. Temporal consistent augmentation blends a still frame into the anchor: looks change
and motion stays.

B samples of this rank, K negatives, D features, N training videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from data_process.errors import RunError
from models.backbone import Backbone
from models.encoder import Encoder
from models.gather import gather_rows, world_size
from models.heads.embedding import MLPHead
from models.losses.cross_view_nce import binary_nce, normalising_constant, softmax_nce
from models.losses.queue_nce import queue_logits, with_same_video, without_own_keys
from models.memory_bank import BankPlacement
from models.method import DatasetFacts, Method, MethodOutput
from models.metrics import contrast_metrics, feature_spread
from models.momentum_keys import MomentumKeys
from models.orientation_naming import OrientationNaming
from models.pending import Pending
from models.planners.triplet import TRIPLET, Part, PartialTriplet, TripletPlanner
from models.row_exchange import DrawnRows
from models.sharded_bank import build_bank
from models.triplet_changes import STRONG, TripletChanges
from pipelines.batch import ViewBatch
from pipelines.plan import ClipFormat, Planner


class VTDL(Method):
    """VTDL; the defaults are the published ones.

    With ``memory`` bank it is instance discrimination (Wu et al., arXiv 1805.01978), which the release holds but does
    not train: no key encoder and no positive clip, the anchor is drawn to what the bank remembers of its video and
    away from K drawn rows.

    Args:
        facts: number of videos, which is the number of bank rows.
        backbone: encodes all clips; another one, that follows it, the positives.
        clip: how triplets are drawn and changed; its `mix_strength` 0 switches temporal consistent augmentation off.
        memory: queue or bank.
        num_negatives: K.
        temperature: T.
        dim: D.
        hidden_dim: width of a hidden layer between backbone and feature; None for none.
        same_video_negative: compare with another time of the same video; otherwise plain MoCo on one moment.
        mixed_clip: anchor (as in the code) or positive (as in the abstract): which one stills are blended into and a
            window is cut from.
        shuffled_clip: which frames `clip.shuffle` puts into another order: those of the negative, or those of the
            positive for one negative more, the release's "strong negative" (of the queue alone).
        orientation_weight: of naming how anchor and negative lie (`clip.orientations`), a linear layer on the
            backbone's features; 0 leaves it out, and orientations are changes as others are.
        key_momentum: share of the old weights in those of the key encoder.
        bank_momentum: share of the old row in the new one, with a bank.
        bank_placement: replicated, a whole bank on every rank; or sharded, each rank keeps its part, which trains the
            same (with a bank).
        softmax: cross-entropy over all columns; otherwise the NCE form, whose constant comes from the first global
            batch.
        ignore_own_keys: leave out queued keys of the sample's own video, which the release takes for negatives: with K
            near N half of all samples have one (metric ``queued_own``).
        legacy_shared_weight: the blending weights, and so the window and the order of frames, of the first sample of
            the global batch are those of all, as the release draws one for a batch (methods/vtdl.md 2.6, 2.7).
        legacy_reuse_mixed: blend other videos' stills in place from the first sample to the last, so that later ones
            get stills that are mixed already (methods/vtdl.md 2.7).
        legacy_orientations: 16 orientations whose turn overwrites the rest, so that 4 differ (methods/vtdl.md 9).
        legacy_constant: the NCE form with N counted in batches and its constant cut to an integer, as in the release
            (methods/vtdl.md 4, 10 no. 13).
        seed: of the first rows of queue or bank, and of the exchange of samples between ranks.
    """

    def __init__(
        self,
        facts: DatasetFacts,
        backbone: Backbone,
        *,
        clip: TripletPlanner = TripletPlanner(),  # noqa: B008 - frozen
        memory: Literal["queue", "bank"] = "queue",
        num_negatives: int = 16384,
        temperature: float = 0.07,
        dim: int = 128,
        hidden_dim: int | None = None,
        same_video_negative: bool = True,
        mixed_clip: Literal["anchor", "positive"] = "anchor",
        shuffled_clip: Literal["negative", "positive"] = "negative",
        orientation_weight: float = 0.0,
        key_momentum: float = 0.999,
        bank_momentum: float = 0.5,
        bank_placement: BankPlacement = "replicated",
        softmax: bool = True,
        ignore_own_keys: bool = False,
        legacy_shared_weight: bool = False,
        legacy_reuse_mixed: bool = False,
        legacy_orientations: bool = False,
        legacy_constant: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_negatives < 1:
            raise ValueError(f"num_negatives ({num_negatives}) must be at least 1")
        if memory == "bank" and (mixed_clip == "positive" or ignore_own_keys):
            raise ValueError(
                "memory bank has neither positive clips nor queued keys: leave mixed_clip at anchor and "
                "ignore_own_keys off, or take memory queue"
            )
        if memory == "queue" and bank_placement != "replicated":
            raise ValueError("bank_placement is about memory bank: take that, or leave bank_placement out")
        if legacy_constant and softmax:
            raise ValueError("legacy_constant is about the NCE form; switch softmax off, or leave it out")
        self.clip, self.temperature, self.softmax = clip, temperature, softmax
        self.num_videos, self.num_negatives = facts.num_samples, num_negatives
        self.ignore_own_keys, self.legacy_constant = ignore_own_keys, legacy_constant
        kept: dict[Part, bool] = {"anchor": True, "positive": memory == "queue", "negative": same_video_negative}
        self.parts: tuple[Part, ...] = tuple(part for part in TRIPLET if kept[part])
        self.changes = TripletChanges(
            clip,
            self.parts,
            mixed=mixed_clip,
            shuffled=shuffled_clip,
            shared_draws=legacy_shared_weight,
            reuse_mixed=legacy_reuse_mixed,
            overwritten=legacy_orientations,
        )

        self.backbone = backbone
        self.head = MLPHead(backbone.out_dim, dim, hidden_dim=hidden_dim, normalize=True)
        self.naming = (
            OrientationNaming(backbone.out_dim, clip.orientations, weight=orientation_weight)
            if orientation_weight
            else None
        )
        generator = torch.Generator().manual_seed(seed)
        self.keys, self.bank = None, None
        if memory == "queue":
            self.keys = MomentumKeys(
                self._encoder(),
                num_negatives,
                dim,
                momentum=key_momentum,
                seed=seed,
                generator=generator,
                unit_rows=False,
            )
        else:
            self.bank = build_bank(bank_placement, facts.num_samples, dim, momentum=bank_momentum, generator=generator)
        self.constant: Tensor
        self.register_buffer("constant", torch.full((), -1.0))  # Z of the NCE form, -1 until known
        self._pending = Pending()

    @property
    def clip_format(self) -> ClipFormat:
        """The clips of the triplet that are used, normalised as ImageNet's pictures."""
        return ClipFormat(
            len(self.parts),
            self.clip.num_frames,
            self.clip.size,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            operations=self.clip.operations,
        )

    def planner(self) -> Planner:
        """Draws triplets and, for a bank, K of its rows."""
        return PartialTriplet(self.clip, self.parts, self.num_videos, self.num_negatives if self.bank else 0)

    def forward(self, batch: ViewBatch) -> MethodOutput:
        """The contrast of anchors with all else; what is to be remembered waits for `after_step`."""
        clips = dict(zip(self.parts, batch.clips, strict=True)) | self.derived(batch)
        drawn = self._drawn(batch)  # before the networks: where the bank is sharded, it waits for the device
        features = {name: self.backbone.pooled(clips[name]) for name in ("anchor", "negative", STRONG) if name in clips}
        others = {name: self.head(feature) for name, feature in features.items()}
        query = others.pop("anchor")
        key = self.keys.encode(clips["positive"]) if self.keys else None
        with torch.autocast(query.device.type, enabled=False):
            logits, metrics = self._compared(query, key, drawn, batch.index)
            for other in others.values():
                logits = with_same_video(logits, query, other, temperature=self.temperature)
            losses = {"contrast": self._loss(logits)}
        if self.naming:
            named = {part: view for view, part in enumerate(self.parts) if part in features}
            places = [batch.targets["orientation"][:, view] for view in named.values()]
            losses["orientation"], metrics["orientation_accuracy"] = self.naming([features[p] for p in named], places)
        self._pending.add(batch, index=batch.index, keys=query if key is None else key)
        metrics |= self._metrics(logits.detach(), query.detach(), key, others)
        return MethodOutput(losses, metrics)

    def _encoder(self) -> Encoder:
        # Made anew: were it kept, the weights would stand in checkpoints under two names.
        return Encoder(self.backbone, self.head)

    @property
    def mixes_samples(self) -> bool:
        """Where stills of other videos are blended in, or the first sample's draws are everybody's."""
        return self.changes.is_batchwide

    def derived(self, batch: ViewBatch) -> dict[str, Tensor]:
        """The clips that are changed before they are encoded, or made of another."""
        return self.changes(batch.clips, batch.targets)

    def _drawn(self, batch: ViewBatch) -> DrawnRows | None:
        """The sample's own row of the bank and K others, (B, 1 + K)."""
        if self.bank is None:
            return None
        return self.bank.find(torch.cat([batch.index.unsqueeze(1), batch.targets["negatives"]], dim=1))

    def _compared(
        self, query: Tensor, key: Tensor | None, drawn: DrawnRows | None, index: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, 1 + K) of the memory, column 0 the positive; and metrics of them."""
        if self.keys is None or key is None:
            assert self.bank is not None
            assert drawn is not None
            logits = self.bank.scores(query, drawn) / self.temperature
            return logits, contrast_metrics(logits, self.temperature)
        logits = queue_logits(query, key, self.keys.queue.rows, temperature=self.temperature)
        own = self.keys.videos == index.unsqueeze(1)
        metrics = contrast_metrics(logits, self.temperature)
        metrics |= {"queued_own": own.any(dim=1).double().mean(), "queue_age": self.keys.age(len(index))}
        return without_own_keys(logits, own) if self.ignore_own_keys else logits, metrics

    def _loss(self, logits: Tensor) -> Tensor:
        if self.softmax:
            return softmax_nce(logits)
        num_rows = self.num_videos
        if self.legacy_constant:
            num_rows = max(1, num_rows // (len(logits) * world_size()))
        if self.constant < 0:
            everyone = gather_rows(normalising_constant(logits, num_rows).reshape(1))
            self.constant.copy_(everyone.mean().floor() if self.legacy_constant else everyone.mean())
            if self.constant == 0:
                raise RunError(
                    "the constant of the NCE form was cut to 0, by which nothing can be divided; set "
                    "method.legacy_constant to false"
                )
        return binary_nce(logits.exp() / self.constant.clone(), num_rows)

    def _metrics(
        self, logits: Tensor, query: Tensor, key: Tensor | None, others: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """How often the positive is nearer than all that counts, and what the video's own negatives add."""
        metrics = {"found": (logits.argmax(dim=1) == 0).double().mean(), "feature_spread": feature_spread(query)}
        own = dict(zip(others, logits[:, logits.shape[1] - len(others) :].unbind(dim=1), strict=True))
        if "negative" in own:
            metrics["same_video_similarity"] = own["negative"].mean() * self.temperature
            metrics["moment_found"] = (logits[:, 0] > own["negative"]).double().mean()
            if key is not None:
                # The release computes it in every step and does not add it (methods/vtdl.md 4).
                metrics["triplet_margin"] = functional.triplet_margin_loss(query, key, others["negative"].detach())
        if STRONG in own:
            metrics["shuffled_similarity"] = own[STRONG].mean() * self.temperature
            metrics["order_found"] = (logits[:, 0] > own[STRONG]).double().mean()
        return metrics

    @torch.no_grad()
    def after_step(self) -> None:
        """Remember the features of all ranks, in rank order, and let the key encoder follow."""
        pending = self._pending.take()
        if pending and self.keys:
            self.keys.push(**pending)
            self.keys.follow(self._encoder())
        elif pending and self.bank:
            self.bank.update(gather_rows(pending["index"]), gather_rows(pending["keys"]))
