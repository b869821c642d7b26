"""What a query is compared with in MoCo and VTDL: keys of a slowly following encoder, the newest of them in a queue."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.gather import gather_rows, world_size
from models.momentum import MomentumNetwork
from models.queue import FeatureQueue
from models.shuffle import Shuffling


class MomentumKeys(nn.Module):
    """The network that encodes keys, the queue of its features, and whose they are.

    Args:
        encoder: (b, C, T, H, W) to (b, D); copied.
        num_keys: K.
        dim: D.
        momentum: share of the old weights in the new ones.
        seed: of the exchange of samples between ranks.
        generator: of the queue's first rows.
        unit_rows: of the queue, see there.

    Attributes:
        videos: (K,) int64, index of the video of each queued key; -1 for the first rows.
    """

    videos: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        num_keys: int,
        dim: int,
        *,
        momentum: float,
        seed: int,
        generator: torch.Generator,
        unit_rows: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = MomentumNetwork(encoder, momentum=momentum)
        self.queue = FeatureQueue(num_keys, dim, generator=generator, unit_rows=unit_rows)
        self.shuffling = Shuffling(seed)
        self.register_buffer("videos", torch.full((num_keys,), -1, dtype=torch.int64))

    def encode(self, clips: Tensor) -> Tensor:
        """Keys (b, D) without gradient, computed among samples of other ranks: batch norms give nothing away."""
        return self.shuffling(self.encoder, clips)

    @torch.no_grad()
    def push(self, index: Tensor, keys: Tensor) -> None:
        """Queue the keys (b, D) of the videos index (b,), those of all ranks in rank order."""
        places = self.queue.push(keys)
        self.videos[places] = gather_rows(index)

    def follow(self, encoder: nn.Module) -> None:
        """Move the weights towards those of an encoder of the same architecture."""
        self.encoder.follow(encoder)

    def age(self, batch: int) -> Tensor:
        """Steps since the oldest key was made, (); `batch` samples a rank and step.

        With gradient accumulation, where `batch` is a micro-batch, it counts micro-batches.
        """
        return self.queue.num_pushed.clamp(max=len(self.videos)).double() / (batch * world_size())
