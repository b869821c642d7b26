"""What is derived from a clip on the device: residual frames, and clips whose temporal order is destroyed.

Clips are (B, C, T, H, W), B clips of T frames.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def residual(clips: Tensor, *, rescale: bool = True) -> Tensor:
    """Each frame minus the one before; frame 0 minus the last (IIC, ``diff`` in ``train_ssl.py``).

    Args:
        clips: RGB in [0, 1].
        rescale: give (difference + 1) / 2 in [0, 1], as in pretraining and retrieval; fine-tuning uses the difference.
    """
    difference = clips - torch.roll(clips, 1, dims=2)
    return (difference + 1.0) / 2.0 if rescale else difference


def repeat_frame(clips: Tensor, frame: Tensor) -> Tensor:
    """Clips that show one of their frames all the time; `frame` is (B,) int64."""
    still = clips[torch.arange(len(clips), device=clips.device), :, frame]
    return still.unsqueeze(2).expand_as(clips)


def reorder_chunks(clips: Tensor, order: Tensor) -> Tensor:
    """Clips cut into equal chunks of time that are put in another order.

    Args:
        clips: T must divide by the number of chunks.
        order: (B, number of chunks) int64; chunk `order[b, k]` of clip b comes k-th.
    """
    chunks = order.shape[1]
    length = clips.shape[2] // chunks
    frames = order.unsqueeze(2) * length + torch.arange(length, device=clips.device)
    index = frames.flatten(1)[:, None, :, None, None].expand_as(clips)
    return torch.gather(clips, 2, index)


def reorder_quadrants(clips: Tensor, order: Tensor) -> Tensor:
    """Clips whose quarters of the picture are put in another order, the same for all frames.

    Args:
        clips: H and W even.
        order: (B, 4) int64; quadrant `order[b, k]` of clip b comes to place k. Row by row: 0, 1 above 2, 3.
    """
    height, width = clips.shape[3] // 2, clips.shape[4] // 2
    quadrants = clips.unflatten(4, (2, width)).unflatten(3, (2, height)).permute(0, 3, 5, 1, 2, 4, 6).flatten(1, 2)
    chosen = quadrants[torch.arange(len(clips), device=clips.device).unsqueeze(1), order]
    return chosen.unflatten(1, (2, 2)).permute(0, 3, 4, 1, 5, 2, 6).flatten(5, 6).flatten(3, 4)


def blurred(clips: Tensor) -> Tensor:
    """Each pixel the mean of the 5 x 5 around it, of those that lie in the picture."""
    return functional.avg_pool3d(clips, (1, 5, 5), stride=1, padding=(0, 2, 2), count_include_pad=False)


def blend_frame(clips: Tensor, frame: Tensor, weight: Tensor) -> Tensor:
    """Every frame mixed with one frame of its clip: ``(1 - weight) * x_t + weight * x_frame``.

    VTDL's temporal consistent augmentation (arXiv 2008.02129): what stands still changes, what moves only shrinks,
    since differences of frames are multiplied by 1 - weight.

    Args:
        clips: (B, C, T, H, W), normalised.
        frame: (B,) int64.
        weight: (B,) float, or () for one weight of the whole batch.
    """
    still = clips[torch.arange(len(clips), device=clips.device), :, frame].unsqueeze(2)
    return torch.lerp(clips, still.expand_as(clips), weight.to(clips.dtype).reshape(-1, 1, 1, 1, 1).expand_as(clips))
