"""The pixel operations of a clip plan on the CPU, in torch: the reference that the DALI graph is tested against.

Shapes: N frames, h x w crop, S output side; frames are (N, h, w, 3) in memory (channels last) throughout. Grey levels
are 0..255, as uint8 where they are whole.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipelines.plan import Box, ClipPlan, Interpolation, Photometric
from pipelines.vectors import ZERO_LEVEL, vector_map

_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
"""The RGB to YIQ-like map of DALI's color_twist."""

_RGB = np.linalg.inv(_YIQ)

_PIXELS_A_ROW = 4
"""Pixels that one row of the colour product holds: a product of 12 columns runs twice as fast as one of 3."""


def cut_clip(
    decoded: dict[int, np.ndarray], clip: ClipPlan, size: int, interpolation: Interpolation = "bilinear"
) -> Tensor:
    """The planned clip, not yet normalised.

    Args:
        decoded: frame number to pixels (height, width, 3) uint8, or to flow (height, width, 2) uint8 around 128; of at
            least the frames that the clip names.
        clip: what to cut.
        size: S, output height and width.
        interpolation: of the resize.

    Returns:
        (T, S, S, 3) uint8, or (T, S, S, 2).
    """
    if next(iter(decoded.values())).shape[2] == 2:
        return _cut_flow(decoded, clip, size, interpolation)
    numbers = sorted(set(clip.frames)) if len(clip.photometric) == 1 else list(clip.frames)
    pixels = _crop([decoded[number] for number in numbers], clip)
    pixels = _oriented(resize(_recoloured(pixels, clip.photometric), size, interpolation), clip)
    if any(change.blur > 0 for change in clip.photometric):
        pixels = _blurred(pixels, clip.photometric)
    if list(clip.frames) == numbers:
        return pixels
    place = {number: at for at, number in enumerate(numbers)}
    return pixels[[place[number] for number in clip.frames]]


def _cut_flow(decoded: dict[int, np.ndarray], clip: ClipPlan, size: int, interpolation: Interpolation) -> Tensor:
    pixels = _crop([decoded[number] for number in clip.frames], clip, outside=ZERO_LEVEL)
    pixels = to_levels(pixels) if pixels.is_floating_point() else pixels
    vectors = _oriented(resize(pixels, size, interpolation), clip, outside=ZERO_LEVEL).float() - ZERO_LEVEL
    return to_levels(vectors @ torch.from_numpy(vector_map(clip, size)).T + ZERO_LEVEL)


def as_channels(pixels: Tensor, component: int | None) -> Tensor:
    """One component of flow (..., 2) three times, (..., 3); everything else as it is."""
    if component is None:
        return pixels
    return pixels[..., component, None].expand(*pixels.shape[:-1], 3)


def _oriented(pixels: Tensor, clip: ClipPlan, *, outside: int = 0) -> Tensor:
    if clip.tilt:
        square = Box(0, 0, *pixels.shape[1:3])
        pixels = to_levels(rotated_crop(pixels.numpy(), square, clip.tilt, outside=outside))
    if clip.flip:
        pixels = pixels.flip(2)
    return pixels.rot90(clip.quarter_turns, dims=(1, 2)) if clip.quarter_turns else pixels


def _crop(frames: list[np.ndarray], clip: ClipPlan, *, outside: int = 0) -> Tensor:
    height, width, channels = frames[0].shape
    if clip.box.is_inside(height, width):
        return _cut(frames, clip.box, clip.angle, outside)
    box, inside = clip.box, clip.box.within(height, width)
    kind = torch.float32 if clip.angle else torch.uint8
    cut = torch.full((len(frames), box.height, box.width, channels), outside, dtype=kind)
    if inside is not None:
        top, left = inside.top - box.top, inside.left - box.left
        cut[:, top : top + inside.height, left : left + inside.width] = _cut(frames, inside, clip.angle, outside)
    return cut


def _cut(frames: list[np.ndarray], box: Box, angle: float, outside: int) -> Tensor:
    if angle:
        return rotated_crop(np.stack(frames), box, angle, outside=outside)
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    # Unlike numpy's, torch's copy lets other threads run.
    return torch.stack([torch.from_numpy(frame[rows, columns]) for frame in frames])


def _recoloured(pixels: Tensor, changes: tuple[Photometric, ...]) -> Tensor:
    if len(changes) == 1:
        return recolour(pixels, changes[0])
    return torch.cat([recolour(pixels[at : at + 1], change) for at, change in enumerate(changes)])


def _blurred(pixels: Tensor, changes: tuple[Photometric, ...]) -> Tensor:
    if len(changes) == 1:
        return blur(pixels, changes[0].blur)
    return torch.cat([blur(pixels[at : at + 1], change.blur) for at, change in enumerate(changes)])


def to_levels(pixels: Tensor) -> Tensor:
    """Grey levels as uint8, rounded and clipped."""
    return pixels.round().clamp_(0, 255).to(torch.uint8)


def resize(pixels: Tensor, size: int, interpolation: Interpolation = "bilinear") -> Tensor:
    """Antialiased resize of (N, h, w, C) uint8 to (N, S, S, C) uint8, as Pillow's on the crop."""
    if pixels.shape[1:3] == (size, size):
        return pixels
    planes = pixels.permute(0, 3, 1, 2)
    # On whole levels in channels-last memory this is ten times as fast as on floats.
    out = functional.interpolate(planes, size=(size, size), mode=interpolation, antialias=True, align_corners=False)
    return out.permute(0, 2, 3, 1)


def rotated_crop(frames: np.ndarray, box: Box, angle: float, *, outside: int = 0) -> Tensor:
    """The crop of frames (N, H, W, C) uint8 rotated about their centre; only its own pixels are computed.

    Args:
        frames: whole frames.
        box: crop in the rotated frame.
        angle: degrees counter-clockwise.
        outside: level outside the frame.

    Returns:
        (N, h, w, C) float32, not rounded; bilinear.
    """
    height, width, channels = frames.shape[1:]
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    rows = torch.arange(box.top, box.top + box.height, dtype=torch.float64)[:, None] + 0.5 - height / 2
    columns = torch.arange(box.left, box.left + box.width, dtype=torch.float64)[None] + 0.5 - width / 2
    # Counter-clockwise on the screen, where y points down: the source lies clockwise of the target.
    across = (cosine * columns - sine * rows) / (width / 2)
    down = (sine * columns + cosine * rows) / (height / 2)
    grid = torch.stack([across, down], dim=-1).float()[None]
    # All frames share the grid, so they stand as channels of one image and its weights are computed once.
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2).float().reshape(1, -1, height, width) - outside
    out = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return out.view(len(frames), channels, box.height, box.width).permute(0, 2, 3, 1) + outside


def recolour(pixels: Tensor, change: Photometric) -> Tensor:
    """Colour map and grey of (N, h, w, 3) uint8 or float32, the same for all frames; rounded once, to uint8."""
    if not (change.changes_colour or change.grey or change.channel is not None):
        return to_levels(pixels) if pixels.is_floating_point() else pixels
    matrix, offset = _colour_map(change)
    together = _PIXELS_A_ROW if pixels.numel() % (3 * _PIXELS_A_ROW) == 0 else 1
    rows = pixels.reshape(-1, 3 * together).float()
    mapped = torch.addmm(offset.repeat(together), rows, torch.block_diag(*[matrix] * together))
    return to_levels(mapped).view(pixels.shape)


@lru_cache(maxsize=256)
def _colour_map(change: Photometric) -> tuple[Tensor, Tensor]:
    """Matrix (3, 3) and offset (3,) float32 with `rgb @ matrix + offset` for rows of grey levels.

    The definition in `pipelines.plan.Photometric`: hue and saturation in YIQ-like coordinates, then contrast around
    128, then brightness; grey is saturation 0, one channel alone stands in all three places.
    """
    saturation = 0.0 if change.grey else change.saturation
    hue = math.radians(change.hue)
    turn = np.array([[1, 0, 0], [0, math.cos(hue), math.sin(hue)], [0, -math.sin(hue), math.cos(hue)]])
    chroma = _RGB @ turn @ np.diag([1.0, saturation, saturation]) @ _YIQ
    gain = change.brightness * change.contrast
    offset = change.brightness * 128.0 * (1.0 - change.contrast)
    if change.channel is not None:
        chroma = chroma[[change.channel] * 3]
    return torch.tensor((gain * chroma).T, dtype=torch.float32), torch.full((3,), offset, dtype=torch.float32)


def blur(pixels: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N, S, S, 3) uint8: radius ceil(3 sigma), borders reflected without repeating the edge; sigma
    0 changes nothing.

    Two passes of shifted sums, which take a twentieth of the time of torch's convolution of one channel each.
    """
    if sigma == 0:
        return pixels
    radius = math.ceil(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    kernel = (weights / weights.sum()).tolist()
    count, height, width = pixels.shape[:3]
    down = pixels.float()[:, _reflected(height, radius)].reshape(count, height + 2 * radius, width * 3)
    rows = _shifted_sum([down[:, at : at + height] for at in range(2 * radius + 1)], kernel)
    across = rows.view(count, height, width, 3)[:, :, _reflected(width, radius)].view(count, height, -1)
    columns = [across[:, :, 3 * at : 3 * (at + width)] for at in range(2 * radius + 1)]
    return to_levels(_shifted_sum(columns, kernel)).view(pixels.shape)


def _reflected(length: int, radius: int) -> Tensor:
    """Positions -radius .. length - 1 + radius, reflected at the first and the last as often as it takes."""
    period = max(1, 2 * (length - 1))
    place = torch.arange(-radius, length + radius).remainder(period)
    return torch.minimum(place, period - place) if length > 1 else torch.zeros_like(place)


def _shifted_sum(parts: list[Tensor], weights: list[float]) -> Tensor:
    total = parts[0] * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total.add_(part, alpha=weight)
    return total
