"""Carries plans out on the CPU with simplejpeg and torch: the reference, and the fast path without a GPU.

Shapes: T frames, S output side, h x w crop; frames are T, h, w, 3 in memory (channels last) throughout.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_process.errors import RunError
from data_process.records import VideoRecord
from pipelines.plan import ClipFormat, ClipPlan, Photometric
from pipelines.source import PlannedBatch

_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
"""The RGB to YIQ-like map of DALI's color_twist."""

_HARMLESS_GAIN = 1.5


class HostExecutor:
    """Turns planned batches into normalised clips, a thread per sample.

    Args:
        clip_format: views, frames, size and normalisation.
        threads: samples in work side by side.
    """

    def __init__(self, clip_format: ClipFormat, *, threads: int) -> None:
        self._format = clip_format
        scale = torch.tensor([255.0 * s for s in clip_format.std])
        self._scale, self._offset = 1.0 / scale, -torch.tensor(clip_format.mean) / torch.tensor(clip_format.std)
        self._pool = _single_threaded_pool(threads)

    def run(self, planned: Iterable[PlannedBatch]) -> Iterator[tuple[PlannedBatch, tuple[Tensor, ...]]]:
        """Each batch with its V clips (b, 3, T, S, S) float32, contiguous in channels-last-3d."""
        for batch in planned:
            yield batch, self._carry_out(batch)

    def _carry_out(self, batch: PlannedBatch) -> tuple[Tensor, ...]:
        size, frames = self._format.size, self._format.num_frames
        views = [torch.empty(len(batch.index), frames, size, size, 3) for _ in range(self._format.num_views)]
        list(self._pool.map(lambda sample: self._fill(batch, sample, views), range(len(batch.index))))
        return tuple(view.permute(0, 4, 1, 2, 3) for view in views)

    def _fill(self, batch: PlannedBatch, sample: int, views: list[Tensor]) -> None:
        record = batch.records[sample]
        decoded = {frame: decode(data, record, frame) for frame, data in batch.frames[sample].items()}
        for clip, view in zip(batch.plans[sample].clips, views, strict=True):
            pixels = cut_clip(decoded, clip, self._format.size)
            torch.addcmul(self._offset, pixels, self._scale, out=view[sample])

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _single_threaded_pool(threads: int) -> ThreadPoolExecutor:
    """Threads in which torch's own operators use one core each; the caller's thread count stays as it was."""
    before = torch.get_num_threads()
    started = threading.Barrier(threads + 1)

    def start() -> None:
        # The first query fixes the thread's own setting; only then does setting it last.
        torch.get_num_threads()
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="host-executor", initializer=start)
    for _ in range(threads):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(before)
    return pool


def decode(data: bytes, record: VideoRecord, frame: int) -> np.ndarray:
    """RGB pixels of a stored JPEG, (height, width, 3) uint8.

    Raises:
        RunError: for a JPEG that cannot be decoded or has another size than the record says.
    """
    import simplejpeg

    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)
    except ValueError as error:
        raise RunError(f"{record.id}, frame {frame}: the stored JPEG cannot be decoded ({error})") from None
    if pixels.shape != (record.height, record.width, 3):
        raise RunError(f"{record.id}, frame {frame} has {pixels.shape}, the record says {record.height}x{record.width}")
    return pixels


def cut_clip(decoded: dict[int, np.ndarray], clip: ClipPlan, size: int) -> Tensor:
    """The planned clip of decoded frames, (T, S, S, 3) uint8, not yet normalised."""
    unique = sorted(set(clip.frames))
    if len(clip.photometric) > 1:
        unique = list(clip.frames)
    box = clip.box
    if clip.angle:
        pixels = rotate_crop(np.stack([decoded[frame] for frame in unique]), clip)
    else:
        rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
        pixels = torch.from_numpy(np.stack([decoded[frame][rows, columns] for frame in unique]))
    if any(_amplifies(one) for one in clip.photometric):
        pixels = pixels.float()
    elif pixels.is_floating_point():
        pixels = to_levels(pixels)
    pixels = resize(pixels, size)
    if clip.flip:
        pixels = pixels.flip(2)
    if clip.quarter_turns:
        pixels = pixels.rot90(clip.quarter_turns, dims=(1, 2))
    if len(clip.photometric) > 1:
        return torch.cat([recolour(pixels[at : at + 1], one) for at, one in enumerate(clip.photometric)])
    pixels = recolour(pixels, next(iter(clip.photometric)))
    if len(unique) == len(clip.frames) and list(clip.frames) == unique:
        return pixels
    place = {frame: at for at, frame in enumerate(unique)}
    return pixels[[place[frame] for frame in clip.frames]]


def _amplifies(photometric: Photometric) -> bool:
    """Whether the colour map makes a rounding error of one level visible; then nothing is rounded before it.

    Resizing whole levels is ten times as fast as resizing floats, and differs by at most one level.
    """
    if not photometric.changes_colour:
        return False
    return float(colour_map(photometric)[0].abs().sum(dim=0).max()) > _HARMLESS_GAIN


def to_levels(pixels: Tensor) -> Tensor:
    """Grey levels as uint8, rounded and clipped."""
    return pixels.round().clamp_(0, 255).to(torch.uint8)


def resize(pixels: Tensor, size: int) -> Tensor:
    """Antialiased bilinear resize of (T, h, w, 3) uint8 or float32 to (T, S, S, 3), as Pillow's on the crop."""
    if pixels.shape[1:3] == (size, size):
        return pixels
    planes = pixels.permute(0, 3, 1, 2)
    out = functional.interpolate(planes, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return out.permute(0, 2, 3, 1)


def rotate_crop(frames: np.ndarray, clip: ClipPlan) -> Tensor:
    """The crop box of frames rotated about their centre, (T, h, w, 3) float32; bilinear, black outside the frame."""
    height, width = frames.shape[1:3]
    box, angle = clip.box, math.radians(clip.angle)
    rows = torch.arange(box.top, box.top + box.height) + 0.5 - height / 2
    columns = torch.arange(box.left, box.left + box.width) + 0.5 - width / 2
    y, x = torch.meshgrid(rows.double(), columns.double(), indexing="ij")
    # Counter-clockwise on the screen, where y points down: the source lies clockwise of the target.
    source_x = math.cos(angle) * x - math.sin(angle) * y
    source_y = math.sin(angle) * x + math.cos(angle) * y
    grid = torch.stack([source_x / (width / 2), source_y / (height / 2)], dim=-1).float()
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    out = functional.grid_sample(planes, grid.expand(len(frames), -1, -1, -1), align_corners=False)
    return out.permute(0, 2, 3, 1)


def recolour(pixels: Tensor, photometric: Photometric) -> Tensor:
    """Colour map and blur of (T, S, S, 3) uint8 or float32, the same for all frames; gives uint8."""
    if photometric.changes_colour or photometric.grey:
        matrix, offset = colour_map(photometric)
        pixels = to_levels(torch.addmm(offset, pixels.reshape(-1, 3).float(), matrix)).view(pixels.shape)
    elif pixels.is_floating_point():
        pixels = to_levels(pixels)
    if photometric.blur > 0:
        pixels = blur(pixels, photometric.blur)
    return pixels


@lru_cache(maxsize=256)
def colour_map(photometric: Photometric) -> tuple[Tensor, Tensor]:
    """Matrix (3, 3) and offset (3,) float32 with `rgb @ matrix + offset` for rows of grey levels.

    The definition in `pipelines.plan.Photometric`: hue and saturation in YIQ-like coordinates, then contrast around
    128, then brightness.
    """
    saturation = 0.0 if photometric.grey else photometric.saturation
    hue = math.radians(photometric.hue)
    rotation = np.array([[1, 0, 0], [0, math.cos(hue), math.sin(hue)], [0, -math.sin(hue), math.cos(hue)]])
    chroma = np.linalg.inv(_YIQ) @ rotation @ np.diag([1.0, saturation, saturation]) @ _YIQ
    gain = photometric.brightness * photometric.contrast
    offset = photometric.brightness * 128.0 * (1.0 - photometric.contrast)
    return torch.tensor((gain * chroma).T, dtype=torch.float32), torch.full((3,), offset, dtype=torch.float32)


def blur(pixels: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (T, S, S, 3) uint8: radius ceil(3 sigma), borders reflected without repeating the edge."""
    kernel = gaussian_kernel(sigma)
    radius = len(kernel) // 2
    planes = pixels.permute(0, 3, 1, 2).reshape(-1, 1, *pixels.shape[1:3]).float()
    padded = functional.pad(planes, (radius, radius, radius, radius), mode="reflect")
    out = functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return to_levels(out).view(len(pixels), 3, *pixels.shape[1:3]).permute(0, 2, 3, 1)


@lru_cache(maxsize=64)
def gaussian_kernel(sigma: float) -> Tensor:
    """Weights at -r..r with r = ceil(3 sigma), summing to 1, float32."""
    radius = math.ceil(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).double() / sigma) ** 2)
    return (weights / weights.sum()).float()
