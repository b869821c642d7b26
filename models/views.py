"""What is derived from a clip on the device: residual frames, and clips whose temporal order is destroyed.

Clips are (B, C, T, H, W), B clips of T frames.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.planners.orientations import Orientation


def residual(clips: Tensor, *, rescale: bool = True) -> Tensor:
    """Each frame minus the one before; frame 0 minus the last (IIC, ``diff`` in ``train_ssl.py``).

    Args:
        clips: RGB in [0, 1].
        rescale: give (difference + 1) / 2 in [0, 1], as in pretraining and retrieval; fine-tuning uses the difference.
    """
    difference = clips - torch.roll(clips, 1, dims=2)
    return (difference + 1.0) / 2.0 if rescale else difference


def still_of(clips: Tensor, frame: Tensor) -> Tensor:
    """One frame of each clip, (B, C, H, W); `frame` is (B,) int64."""
    return clips[torch.arange(len(clips), device=clips.device), :, frame]


def repeat_frame(clips: Tensor, frame: Tensor) -> Tensor:
    """Clips that show one of their frames all the time; `frame` is (B,) int64."""
    return still_of(clips, frame).unsqueeze(2).expand_as(clips)


def reorder_chunks(clips: Tensor, order: Tensor) -> Tensor:
    """Clips cut into equal chunks of time that are put in another order.

    Args:
        clips: T must divide by the number of chunks.
        order: (B, number of chunks) int64; chunk `order[b, k]` of clip b comes k-th. With T of them it is frames that
            are put into another order.
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


def blend_still(clips: Tensor, still: Tensor, weight: Tensor) -> Tensor:
    """Every frame mixed with a still: ``(1 - weight) * x_t + weight * still``.

    Args:
        clips: (B, C, T, H, W), normalised.
        still: (B, C, H, W).
        weight: (B,) float, or () for one weight of the whole batch.
    """
    share = weight.to(clips.dtype).reshape(-1, 1, 1, 1, 1).expand_as(clips)
    return torch.lerp(clips, still.unsqueeze(2).expand_as(clips), share)


def blend_frame(clips: Tensor, frame: Tensor, weight: Tensor) -> Tensor:
    """`blend_still` with one frame of the clip itself; `frame` is (B,) int64.

    VTDL's temporal consistent augmentation (arXiv 2008.02129): what stands still changes, what moves only shrinks,
    since differences of frames are multiplied by 1 - weight.
    """
    return blend_still(clips, still_of(clips, frame), weight)


def cut_window(clips: Tensor, window: Tensor) -> Tensor:
    """Clips of which a window of the picture is 0 in all frames: the mean colour where they are normalised.

    Args:
        clips: (B, C, T, H, W).
        window: (B, 4) int64, first row, row behind the last, first column, column behind the last.
    """
    top, bottom, left, right = (edge.reshape(-1, 1, 1, 1, 1) for edge in window.unbind(dim=1))
    rows = torch.arange(clips.shape[3], device=clips.device).reshape(-1, 1)
    columns = torch.arange(clips.shape[4], device=clips.device)
    return clips.masked_fill((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right), 0.0)


def oriented(clips: Tensor, place: Tensor, ways: tuple[Orientation, ...]) -> Tensor:
    """Each clip in a way of its own.

    Args:
        clips: (B, C, T, H, W), H equal to W.
        place: (B,) int64, of its way in `ways`.
        ways: out of `models.planners.orientations`.
    """
    # Chosen on the device: which way a clip takes is not known to the host without waiting.
    chosen = torch.tensor(ways, device=clips.device)[place]
    mirrored, backwards, turns = (column.reshape(-1, 1, 1, 1, 1) for column in chosen.unbind(dim=1))
    if any(way.mirrored for way in ways):
        clips = torch.where(mirrored.bool(), clips.flip(4), clips)
    if any(way.backwards for way in ways):
        clips = torch.where(backwards.bool(), clips.flip(2), clips)
    if any(way.turns for way in ways):
        clips = torch.where(turns >= 2, clips.flip(3, 4), clips)
        clips = torch.where(turns % 2 == 1, clips.rot90(1, (3, 4)), clips)
    return clips
