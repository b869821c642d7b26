"""What a backbone costs: parameters, multiply-adds, and the activations that it keeps for the backward pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from models.backbone import Backbone


@dataclass(frozen=True)
class PartCost:
    """One part of a backbone, or the whole of it, for one clip.

    Attributes:
        name: of the module.
        parameters: numbers.
        macs: multiply-adds of a forward pass (a FLOP count is twice that); convolutions and matrix products only.
        shape: of what it gives, (C, t, h, w).
        kept_bytes: float32 activations that wait for the backward pass, the clip itself apart.
        recomputed_bytes: the same where `Backbone.recompute` is on: what goes into the part. Of the whole, the most
            that there is at any time: what goes into the parts that are still to come, and the inside of one.
    """

    name: str
    parameters: int
    macs: int
    shape: tuple[int, ...]
    kept_bytes: int
    recomputed_bytes: int


def backbone_cost(backbone: Backbone, *, num_frames: int, height: int, width: int) -> tuple[PartCost, ...]:
    """The parts one after the other, and last the sum of them.

    Nothing is computed: shapes run through a copy of the network on the meta device, in training mode.

    Raises:
        InputError: for clips that are smaller than the network can take.
    """
    network = copy.deepcopy(backbone).to("meta").train()
    # Two clips, since batch norm refuses a single value a channel.
    clips = torch.empty(2, network.in_channels, num_frames, height, width, device="meta")
    network.check(clips)
    parts = list(_measured(network, clips))
    inputs = accumulate(part.recomputed_bytes for part in parts)
    whole = PartCost(
        "all",
        sum(part.parameters for part in parts),
        sum(part.macs for part in parts),
        parts[-1].shape,
        sum(part.kept_bytes for part in parts),
        max(before + part.kept_bytes for before, part in zip(inputs, parts, strict=True)),
    )
    return (*parts, whole)


def _measured(network: Backbone, clips: Tensor) -> Iterator[PartCost]:
    names = {id(module): name for name, module in network.named_modules()}
    x = clips
    with FlopCounterMode(display=False) as flops, kept_for_backward(network, clips) as kept:
        for part in network.parts():
            flops_before, kept_before, given = flops.get_total_flops(), kept.num_bytes, x
            x = part(given)
            yield PartCost(
                names.get(id(part), type(part).__name__),
                sum(parameter.numel() for parameter in part.parameters()),
                (flops.get_total_flops() - flops_before) // (2 * len(clips)),
                tuple(x.shape[1:]),
                (kept.num_bytes - kept_before) // len(clips),
                0 if given is clips else given.nbytes // len(clips),
            )


class KeptTensors:
    """Storages that autograd was seen to keep, each counted once; those of `own` tensors are not.

    Attributes:
        num_bytes: of them all.
    """

    def __init__(self, own: Sequence[Tensor]) -> None:
        self.num_bytes = 0
        self._tensors = list(own)  # held, so that no address is used again
        self._seen = {tensor.untyped_storage()._cdata for tensor in own}

    def add(self, tensor: Tensor) -> None:
        """Count a tensor that is saved for the backward pass."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._tensors.append(tensor)
            self.num_bytes += storage.nbytes()


@contextmanager
def kept_for_backward(network: nn.Module, *given: Tensor) -> Iterator[KeptTensors]:
    """Counts what forward passes inside of it keep for their backward passes, beside weights and what was given."""
    kept = KeptTensors([*network.parameters(), *network.buffers(), *given])

    def pack(tensor: Tensor) -> Tensor:
        kept.add(tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
