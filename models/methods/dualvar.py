"""DualVar: what differs between the videos and what changes inside of one (Zhang et al., arXiv 2107.01194).

A contrast of clips, on SimCLR or on MoCo, is joined by two tasks on the embeddings of a clip's S segments: each segment
is told from the others after they were shown in another order (shuffle-rank), and averages over a clip's segments are
contrasted between videos (temporal coherence).

B samples of this rank, C pooled features, S segments, D features of an embedding or a segment.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.gather import gather_with_gradient, gather_with_own_gradient, own_rows, world_size
from models.heads.embedding import MLPHead
from models.losses.cross_view_nce import softmax_nce
from models.losses.nt_xent import nt_xent_logits
from models.losses.queue_nce import queue_logits
from models.losses.segment_ranking import in_first_order, segment_ranking, twin_logits
from models.method import DatasetFacts, Method, MethodOutput
from models.momentum import MomentumNetwork
from models.planners.segments import PairPlanner, SegmentPlanner
from models.queue import FeatureQueue
from models.shuffle import Shuffling
from models.views import reorder_chunks
from pipelines.batch import ViewBatch
from pipelines.plan import IMAGENET_MEAN, IMAGENET_STD, ClipFormat, Planner

Framework = Literal["simclr", "moco"]
Mode = Literal["clip-sr-tc", "clip-sr", "clip-tc", "clip"]


Embeddings = dict[str, Tensor]
"""Of clips, by head and of unit length: clip (B, D), segments (B, S, D)."""


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
        self.temperature, self.coherent_temperature, self.theta = temperature, coherent_temperature, theta
        self.rank_weight, self.coherent_weight = rank_weight, coherent_weight
        self.one_batch, self.legacy_rank_clip, self.legacy_gather = one_batch, legacy_rank_clip, legacy_gather
        width, segments = backbone.out_dim, clip.num_segments
        self.heads = nn.ModuleDict({"clip": MLPHead(width, dim, hidden_dim=width, normalize=True)})
        if mode != "clip":
            self.heads["segments"] = MLPHead(
                width, segments * segment_dim, hidden_dim=width, segments=segments, normalize=True
            )
        if framework == "moco":
            self._add_keys(queue_size, momentum, seed)
        self._pending: Embeddings | None = None

    def _add_keys(self, queue_size: int, momentum: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        networks = {"backbone": self.backbone, **self.heads}
        self.keys = nn.ModuleDict(
            {name: MomentumNetwork(network, momentum=momentum) for name, network in networks.items()}
        )
        widths = {name: _shape(head).numel() for name, head in self.heads.items()}
        self.queues = nn.ModuleDict(
            {name: FeatureQueue(queue_size, width, generator=generator) for name, width in widths.items()}
        )
        self.exchange = Shuffling(seed)

    @property
    def clip_format(self) -> ClipFormat:
        """Clips normalised by ImageNet's statistics: three with ranking, otherwise two."""
        return ClipFormat(
            3 if self.is_ranked else 2,
            self.clip.num_frames,
            self.clip.size,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
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
            logits = {"clip": self._contrast("clip", first, second, self.temperature)}
            losses = {"clip": softmax_nce(logits["clip"])}
            if self.is_coherent:
                logits["coherent"] = self._contrast("segments", first, second, self.coherent_temperature)
                losses["coherent"] = self.coherent_weight * softmax_nce(logits["coherent"])
            if self.is_ranked:
                third, moved = (part["segments"] for part in ranked)
                twins = in_first_order(moved, batch.targets["segment_order"])
                for name, segments in (("rank_first", first["segments"]), ("rank_third", third)):
                    logits[name] = twin_logits(segments, twins, self.theta)
                    loss = segment_ranking(logits[name], largest_margin=self.legacy_rank_clip)
                    losses[name] = self.rank_weight * loss
        metrics = _metrics(logits, first["clip"], second["clip"], self.temperature)
        return MethodOutput(losses, metrics | self._key_metrics(len(batch)))

    def _embed(self, batch: ViewBatch) -> list[Embeddings]:
        """First and second clip; with ranking also the third, and the third with its segments moved."""
        first, second, *third = batch.clips
        moved = [reorder_chunks(clips, batch.targets["segment_order"]) for clips in third]
        if self.framework == "simclr":
            return self._encode([first, second, *third], moved)
        self._pending = self._encode_keys(second)
        queries = self._encode([first], [*third, *moved])
        return [queries[0], self._pending, *queries[1:]]

    def _encode(self, *groups: list[Tensor]) -> list[Embeddings]:
        """Embeddings of all clips; batch norms see those of a group together, or all with `one_batch`."""
        groups = ([clips for group in groups for clips in group],) if self.one_batch else groups
        found: list[Embeddings] = []
        for clips in filter(None, groups):
            features = self.backbone.pooled(torch.cat(clips)).chunk(len(clips))
            found += [{name: head(part) for name, head in self.heads.items()} for part in features]
        return found

    def _encode_keys(self, clips: Tensor) -> Embeddings:
        def encode(clips: Tensor) -> Tensor:
            features = self.keys["backbone"](clips).mean(dim=(2, 3, 4))
            return torch.cat([self.keys[name](features).flatten(1) for name in self.heads], dim=1)

        shapes = {name: _shape(head) for name, head in self.heads.items()}
        parts = self.exchange(encode, clips).split([shape.numel() for shape in shapes.values()], dim=1)
        return {name: part.unflatten(1, shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}

    def _contrast(self, name: str, first: Embeddings, second: Embeddings, temperature: float) -> Tensor:
        """Logits of clips whose embedding is the clip's own, or the average of its segments."""
        pair = _averages(first[name]), _averages(second[name])
        if self.framework == "moco":
            queue = self._queue(name).rows.unflatten(1, first[name].shape[1:])
            return queue_logits(*pair, _averages(queue), temperature=temperature)
        views = torch.stack(pair, dim=1)
        if not self.legacy_gather:
            everyone = gather_with_gradient(views)
            return nt_xent_logits(everyone, temperature, own_rows(everyone))
        everyone = gather_with_own_gradient(views)
        return nt_xent_logits(everyone, temperature, None if name == "clip" else own_rows(everyone))

    def _queue(self, name: str) -> FeatureQueue:
        queue = self.queues[name]
        assert isinstance(queue, FeatureQueue)
        return queue

    def _key_metrics(self, batch_size: int) -> dict[str, Tensor]:
        """Steps that the oldest key has waited, and how far the key network is behind (its first head)."""
        if self.framework == "simclr":
            return {}
        queue, head = self._queue("clip"), self.keys["clip"]
        assert isinstance(head, MomentumNetwork)
        age = queue.num_pushed.clamp(max=len(queue.rows)) / (batch_size * world_size())
        return {"queue_age": age, "key_distance": head.distance(self.heads["clip"])}

    @torch.no_grad()
    def after_step(self) -> None:
        """MoCo: push the keys of all ranks in rank order, then let the key network follow."""
        if self._pending is None:
            return
        for name, keys in self._pending.items():
            self._queue(name).push(keys.flatten(1))
        self._pending = None
        for name, network in {"backbone": self.backbone, **self.heads}.items():
            followed_by = self.keys[name]
            assert isinstance(followed_by, MomentumNetwork)
            followed_by.follow(network)


def _shape(head: nn.Module) -> torch.Size:
    assert isinstance(head, MLPHead)
    return torch.Size((head.segments, head.out_dim // head.segments) if head.segments else (head.out_dim,))


def _averages(embeddings: Tensor) -> Tensor:
    """(B, D) as they are, (B, S, D) averaged over segments."""
    return embeddings if embeddings.ndim == 2 else embeddings.mean(dim=1)


@torch.no_grad()
def _metrics(logits: dict[str, Tensor], first: Tensor, second: Tensor, temperature: float) -> dict[str, Tensor]:
    """How often each task is solved; cosines of clips; spread over clips, and the part of it inside of videos."""
    metrics = {f"{name}_found": (values.argmax(dim=-1) == 0).double().mean() for name, values in logits.items()}
    cosines = logits["clip"] * temperature
    metrics["positive_cosine"] = cosines[:, 0].mean()
    if cosines.shape[1] > 1:
        metrics["negative_cosine"] = cosines[:, 1:].mean()
    everything = torch.cat([first, second])
    # Near 0 all clips have the same embedding: the network has collapsed.
    metrics["feature_spread"] = everything.std(dim=0, correction=0).mean() * everything.shape[1] ** 0.5
    # Near 0 all clips of a video look alike, near 1 no more than those of different videos.
    inside, total = ((first - second) / 2).square().sum(dim=1).mean(), everything.var(dim=0, correction=0).sum()
    metrics["within_video_share"] = inside / total.clamp(min=torch.finfo(total.dtype).tiny)
    return metrics
