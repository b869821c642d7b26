"""What the loader hands to a method: clips of all views, targets and sample indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class ViewBatch:
    """One batch; B samples, V views, C channels, T frames, H x W pixels.

    Attributes:
        clips: V tensors (B, C, T, H, W) float32 (or float16), normalised by the clip format, channels-last-3d.
        targets: name to tensor (B, ...), from the sample plans.
        index: (B,) int64, the samples' numbers in the dataset.
        plan_digest: number below `pipelines.plan.DIGESTS` that follows from the plans of the clips. The sum over ranks
            modulo `DIGESTS` is that of the global batch, however it was shared. 0 where no plans are known.
        continues: whether it belongs to the same step as the batch before it: all micro-batches but the first.
    """

    clips: tuple[Tensor, ...]
    index: Tensor
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    plan_digest: int = 0
    continues: bool = False

    def __post_init__(self) -> None:
        if not self.clips:
            raise ValueError("a batch needs at least one view")
        shape = self.clips[0].shape
        if len(shape) != 5:
            raise ValueError(f"clips must be (B, C, T, H, W), got {tuple(shape)}")
        for view, clip in enumerate(self.clips):
            if clip.shape != shape or clip.device != self.clips[0].device:
                raise ValueError(f"view {view} is {tuple(clip.shape)} on {clip.device}, view 0 is {tuple(shape)}")
        if self.index.shape != shape[:1] or self.index.dtype != torch.int64:
            raise ValueError(f"index must be ({shape[0]},) int64, got {tuple(self.index.shape)} {self.index.dtype}")
        for name, value in self.targets.items():
            if value.shape[:1] != shape[:1]:
                raise ValueError(f"target {name} has {tuple(value.shape)}, expected ({shape[0]}, ...)")

    def __len__(self) -> int:
        return self.index.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ViewBatch:
        """The same batch on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return ViewBatch(
            clips=tuple(move(clip) for clip in self.clips),
            index=move(self.index),
            targets={name: move(value) for name, value in self.targets.items()},
            plan_digest=self.plan_digest,
            continues=self.continues,
        )

    def split(self, count: int) -> Iterator[ViewBatch]:
        """The batch in `count` micro-batches of equal size, neighbouring samples together; views, no copies.

        Raises:
            ValueError: where the samples do not divide by it.
        """
        if len(self) % count:
            raise ValueError(f"{len(self)} samples do not divide into {count} micro-batches")
        size = len(self) // count
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield ViewBatch(
                clips=tuple(clip[part] for clip in self.clips),
                index=self.index[part],
                targets={name: value[part] for name, value in self.targets.items()},
                plan_digest=self.plan_digest,
                continues=start > 0,
            )
