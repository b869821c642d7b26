"""DualVar: what differs between the videos and what changes inside of one (Zhang et al., arXiv 2107.01194).

A contrast of clips, on SimCLR or on MoCo, is joined by two tasks on the embeddings of a clip's S segments: each segment
is told from the others after they were shown in another order (shuffle-rank), and averages over a clip's segments are
contrasted between videos (temporal coherence).

B samples of this rank, C pooled features, S segments, D features of an embedding or a segment.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from models.backbone import Backbone
from models.encoder import Encoder
from models.gather import gather_with_gradient, gather_with_own_gradient, own_rows
from models.heads.embedding import MLPHead, unit_length
from models.heads.side_by_side import SideBySide
from models.losses.cross_view_nce import softmax_nce
from models.losses.nt_xent import nt_xent_logits
from models.losses.queue_nce import queue_logits
from models.losses.segment_ranking import in_first_order, segment_ranking, twin_logits
from models.method import DatasetFacts, Method, MethodOutput
from models.metrics import contrast_metrics, feature_spread
from models.momentum_keys import MomentumKeys
from models.pending import Pending
from models.planners.segments import PairPlanner, SegmentPlanner
from models.views import reorder_chunks
from pipelines.batch import ViewBatch
from pipelines.plan import IMAGENET_MEAN, IMAGENET_STD, ClipFormat, Planner

Framework = Literal["simclr", "moco"]
Mode = Literal["clip-sr-tc", "clip-sr", "clip-tc", "clip"]

Embeddings = dict[str, Tensor]
"""Of clips, by head and of unit length: clip (B, D), and where a task asks for them segments (B, S, D)."""


class DualVar(Method):
    """DualVar on SimCLR or MoCo; the defaults are the published ones.

    Departures from the release: gradients through gathered clips are exact (`legacy_gather`), margins of the ranking
    have no bound (`legacy_rank_clip`), `theta` counts on MoCo too, frames are not squeezed (``clip.resize``).

    Args:
        facts: not used: no part of the method depends on the number of videos.
        backbone: encodes all clips.
        framework: what carries the contrasts: all other clips of the global batch, or a queue of keys.
        mode: clip-sr-tc for all tasks; without sr the ranking is left out (and with it the third clip), without tc the
            coherence; clip is the plain framework.
        clip: how the clips are drawn, and S.
        dim: of a clip's embedding.
        segment_dim: of a segment's.
        temperature: of the contrast of clips.
        coherent_temperature: of the contrast of averages over segments.
        theta: of the ranking.
        rank_weight: of each of the two rankings, of the first clip and of the third.
        coherent_weight: of temporal coherence.
        queue_size: K, keys in each of MoCo's queues; the release's code has 2,048, its script 16,384.
        momentum: share of the old value in MoCo's key network.
        mean: subtracted from clips in [0, 1], per channel.
        std: divided by, likewise.
        one_batch: encode the shuffled clips together with the others instead of apart, which changes what batch norms
            see.
        legacy_rank_clip: largest margin that ranking learns from; 5 in the release's models on SimCLR.
        legacy_gather: SimCLR's gradients as in the release, for parity of learning rates: on W ranks those of the
            contrast of clips are W times too small, and coherence loses the clips that are other ranks' negatives.
        seed: of the queues' first rows and of the exchange of samples between ranks before MoCo's key network.

    Raises:
        ValueError: for a mode or a framework that there is not, one segment to be ranked, or temperatures that are not
            positive.
    """

    def __init__(
        self,
        facts: DatasetFacts,
        backbone: Backbone,
        *,
        framework: Framework = "simclr",
        mode: Mode = "clip-sr-tc",
        clip: SegmentPlanner = SegmentPlanner(),  # noqa: B008 - frozen
        dim: int = 128,
        segment_dim: int = 64,
        temperature: float = 0.07,
        coherent_temperature: float = 0.07,
        theta: float = 0.05,
        rank_weight: float = 0.5,
        coherent_weight: float = 1.0,
        queue_size: int = 16384,
        momentum: float = 0.999,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        one_batch: bool = False,
        legacy_rank_clip: float | None = None,
        legacy_gather: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if framework not in get_args(Framework) or mode not in get_args(Mode):
            raise ValueError(
                f"framework {framework!r} and mode {mode!r}: expected one of {', '.join(get_args(Framework))} and one "
                f"of {', '.join(get_args(Mode))}"
            )
        if min(temperature, coherent_temperature, theta) <= 0:
            raise ValueError(
                "temperature, coherent_temperature and theta must be positive, got "
                f"{temperature}, {coherent_temperature} and {theta}"
            )
        self.is_ranked, self.is_coherent = "sr" in mode, "tc" in mode
        if self.is_ranked and clip.num_segments < 2:
            raise ValueError(f"mode {mode} ranks segments; clip.num_segments ({clip.num_segments}) must be at least 2")
        if legacy_gather and framework == "moco":
            raise ValueError("legacy_gather is about SimCLR's gradients; on MoCo no gradient passes between ranks")
        self.backbone, self.framework, self.clip = backbone, framework, clip
        self.compares_batch = framework == "simclr"
        self.scales = {"clip": temperature, "coherent": coherent_temperature, "rank_first": theta, "rank_third": theta}
        self.rank_weight, self.coherent_weight = rank_weight, coherent_weight
        self.mean, self.std = mean, std
        self.one_batch, self.legacy_rank_clip, self.legacy_gather = one_batch, legacy_rank_clip, legacy_gather
        self.heads = _heads(backbone.out_dim, dim, 0 if mode == "clip" else clip.num_segments, segment_dim)
        self.keys = self._first_keys(queue_size, momentum, seed) if framework == "moco" else None
        self._pending = Pending()

    def _first_keys(self, queue_size: int, momentum: float, seed: int) -> MomentumKeys:
        generator = torch.Generator().manual_seed(seed)
        keys = MomentumKeys(
            self._encoder(), queue_size, self.heads.out_dim, momentum=momentum, seed=seed, generator=generator
        )
        # A row is several embeddings, each of which has length 1.
        rows = self.heads.split(keys.queue.rows).values()
        keys.queue.rows.copy_(torch.cat([unit_length(one).flatten(1) for one in rows], dim=1))
        return keys

    def _encoder(self) -> Encoder:
        return Encoder(self.backbone, self.heads)

    @property
    def clip_format(self) -> ClipFormat:
        """Three clips with ranking, otherwise two."""
        return ClipFormat(
            3 if self.is_ranked else 2,
            self.clip.num_frames,
            self.clip.size,
            mean=self.mean,
            std=self.std,
            operations=self.clip.operations,
        )

    def planner(self) -> Planner:
        """Draws two clips of different times; with ranking also the first one again, and an order of segments."""
        return self.clip if self.is_ranked else PairPlanner(self.clip)

    def forward(self, batch: ViewBatch) -> MethodOutput:
        """The contrast of clips, temporal coherence and two rankings, as far as the mode has them."""
        first, second, *ranked = self._embed(batch)
        # Products of unit vectors are divided by small temperatures: no place for bfloat16.
        with torch.autocast(batch.index.device.type, enabled=False):
            logits = {"clip": self._contrast("clip", first["clip"], second["clip"])}
            losses = {"clip": softmax_nce(logits["clip"])}
            if self.is_coherent:
                logits["coherent"] = self._contrast("segments", first["segments"], second["segments"])
                losses["coherent"] = self.coherent_weight * softmax_nce(logits["coherent"])
            if self.is_ranked:
                third, moved = (part["segments"] for part in ranked)
                twins = in_first_order(moved, batch.targets["segment_order"])
                for name, segments in (("rank_first", first["segments"]), ("rank_third", third)):
                    logits[name] = twin_logits(segments, twins, self.scales[name])
                    loss = segment_ranking(logits[name], largest_margin=self.legacy_rank_clip)
                    losses[name] = self.rank_weight * loss
            return MethodOutput(losses, self._metrics(logits, first["clip"], second["clip"]))

    def derived(self, batch: ViewBatch) -> dict[str, Tensor]:
        """The third clip with its segments moved, where there is a third."""
        if not self.is_ranked:
            return {}
        return {"segments moved": reorder_chunks(batch.clips[2], batch.targets["segment_order"])}

    @torch.no_grad()
    def parts(self, batch: ViewBatch) -> dict[str, Tensor]:
        """The segments of the first clip, and the same where each was moved on by one place; with ranking."""
        if not self.is_ranked:
            return {}
        clips = batch.clips[0]
        order = torch.arange(self.clip.num_segments, device=clips.device).roll(1).expand(len(clips), -1)
        first, moved = (one["segments"] for one in self._encode([clips], [reorder_chunks(clips, order)]))
        twins = in_first_order(moved, order)
        return {
            f"{name} {number}": segment
            for name, segments in (("segment", first), ("moved", twins))
            for number, segment in enumerate(segments.unbind(dim=1), start=1)
        }

    def _embed(self, batch: ViewBatch) -> list[Embeddings]:
        """First and second clip; with ranking also the third, and the third with its segments moved."""
        first, second, *third = batch.clips
        moved = list(self.derived(batch).values())
        if self.keys is None:
            return self._encode([first, second, *third], moved)
        rows = self.keys.encode(second)
        self._pending.add(batch, index=batch.index, keys=rows)
        queries = self._encode([first], [*third, *moved])
        return [queries[0], self.heads.split(rows), *queries[1:]]

    def _encode(self, *groups: list[Tensor]) -> list[Embeddings]:
        """Embeddings of all clips; batch norms see those of a group together, or all with `one_batch`."""
        if self.one_batch:
            groups = ([clips for group in groups for clips in group],)
        found = []
        for clips in filter(None, groups):
            rows = self.heads(self.backbone.pooled(torch.cat(clips)))
            found += [self.heads.split(part) for part in rows.chunk(len(clips))]
        return found

    def _contrast(self, head: str, first: Tensor, second: Tensor) -> Tensor:
        """Logits of clips by their embeddings (B, D), or by the averages of their segments (B, S, D)."""
        scale = self.scales["clip" if head == "clip" else "coherent"]
        pair = _averages(first), _averages(second)
        if self.keys is not None:
            queue = _averages(self.heads.split(self.keys.queue.rows)[head])
            return queue_logits(*pair, queue, temperature=scale)
        views = torch.stack(pair, dim=1)
        if not self.legacy_gather:
            everyone = gather_with_gradient(views)
            return nt_xent_logits(everyone, scale, own_rows(everyone))
        # As coded: every rank takes all rows of the contrast of clips, but its own of the one of averages.
        everyone = gather_with_own_gradient(views)
        return nt_xent_logits(everyone, scale, None if head == "clip" else own_rows(everyone))

    @torch.no_grad()
    def _metrics(self, logits: dict[str, Tensor], first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """Similarities and how often each task is solved; spread over clips, and its part inside of videos."""
        metrics = {}
        for name, values in logits.items():
            metrics |= contrast_metrics(values.flatten(0, -2), self.scales[name], prefix=f"{name}_")
        metrics["feature_spread"] = feature_spread(first)
        # Near 0 all clips of a video look alike, near 1 no more than those of different videos.
        inside = ((first - second) / 2).square().sum(dim=1).mean()
        total = torch.cat([first, second]).var(dim=0, correction=0).sum()
        metrics["within_video_share"] = inside / total.clamp(min=torch.finfo(total.dtype).tiny)
        if self.keys is not None:
            metrics["queue_age"] = self.keys.age(len(first))
            metrics["key_distance"] = self.keys.encoder.distance(self._encoder())
        return metrics

    @torch.no_grad()
    def after_step(self) -> None:
        """MoCo: queue the keys of all ranks in rank order, then let the key network follow."""
        if self.keys is not None and (pending := self._pending.take()):
            self.keys.push(**pending)
            self.keys.follow(self._encoder())


def _heads(width: int, dim: int, segments: int, segment_dim: int) -> SideBySide:
    heads = {"clip": MLPHead(width, dim, hidden_dim=width, normalize=True)}
    if segments:
        heads["segments"] = MLPHead(
            width, segments * segment_dim, hidden_dim=width, segments=segments, normalize=True
        )  # fmt: skip
    return SideBySide(heads)


def _averages(embeddings: Tensor) -> Tensor:
    """(B, D) as they are, (B, S, D) averaged over segments."""
    return embeddings if embeddings.ndim == 2 else embeddings.mean(dim=1)
