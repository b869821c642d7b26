"""Other ways to the same clips, one thread each: Pillow on our shards and on lists in LMDB, decord and PyAV on MP4s."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.list_database import ListReader, write_lists
from data_process import ffmpeg
from data_process.frames import EncodedFrames
from data_process.records import VideoRecord
from data_process.shards import ShardSet
from pipelines.plan import ClipPlan
from pipelines.source import ClipSource, PlannedBatch

GROUP = 250
"""Frames from one key frame to the next of the MP4 files: what x264 writes unless told otherwise."""

Pictures = Mapping[int, Any]
"""Frame number to a picture of Pillow."""


def write_mp4s(videos: ShardSet, folder: Path) -> list[Path]:
    """The stored frames of each video as one MP4 file, as a download looks."""
    paths = []
    for index, record in enumerate(videos):
        units = videos.read_frames(index, range(record.num_frames)).units
        path = folder / f"{index}.mp4"
        words = ["-nostdin", "-y", "-v", "error", "-f", "image2pipe", "-c:v", "mjpeg", "-r", "25", "-i", "pipe:0"]
        words += [
            "-vf",
            "pad=ceil(iw/2)*2:ceil(ih/2)*2",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-crf",
            "21",
            "-g",
            str(GROUP),
            "-pix_fmt",
            "yuv420p",
        ]
        subprocess.run([ffmpeg.executable(), *words, str(path)], input=b"".join(units), check=True, capture_output=True)
        paths.append(path)
    return paths


def write_list_database(videos: ShardSet, path: Path) -> ListReader:
    """The same frames as CoCLR and CSTP store them, opened as they do."""
    everything = (
        (index, record.id, videos.read_frames(index, range(record.num_frames)).units)
        for index, record in enumerate(videos)
    )
    write_lists(path, [everything])
    return ListReader(path, readahead=False)


@dataclass(frozen=True)
class Contender:
    """One way to the clips.

    Attributes:
        begin: begins its steps; each gives its number of clips.
        num_bytes: that it has read so far; those of the process's calls of `read` unless it maps a file.
    """

    begin: Callable[[], Iterator[int]]
    num_bytes: Callable[[], int] = lambda: _bytes_read()


def _bytes_read() -> int:
    """Bytes that this process got from calls of `read`, out of memory or not; 0 where the system does not tell."""
    counters = Path("/proc/self/io")
    return int(counters.read_text().split()[1]) if counters.exists() else 0


@dataclass(frozen=True)
class _RecordsOnly:
    """The videos of a shard set without their frames: a peer has its own."""

    videos: ShardSet

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> VideoRecord:
        return self.videos[index]

    def read_frames(self, index: int, frames: Sequence[int]) -> EncodedFrames:
        """The numbers alone."""
        return EncodedFrames("jpeg", tuple(frames), (b"",) * len(frames))


def peers(source: ClipSource, videos: ShardSet, folder: Path) -> dict[str, Contender]:
    """The peers by name; what is not installed is left out."""
    database = write_list_database(videos, folder / "list.lmdb")
    source = replace(source, videos=_RecordsOnly(videos))
    ways: dict[str, Callable[[PlannedBatch, int], Pictures]] = {
        "list in LMDB, Pillow": lambda batch, sample: from_list(database, batch, sample)
    }
    if find_spec("decord") or find_spec("av"):
        paths = write_mp4s(videos, folder)
        if find_spec("decord"):
            ways["mp4, decord"] = lambda batch, sample: from_decord(paths, batch, sample)
        if find_spec("av"):
            ways["mp4, PyAV"] = lambda batch, sample: from_pyav(paths, batch, sample)
    return {
        name: Contender(
            lambda read=read: carried_out(source, read),
            *([lambda: database.num_bytes] if name.startswith("list") else []),
        )
        for name, read in ways.items()
    }


def from_shards(batch: PlannedBatch, sample: int) -> Pictures:
    """Pictures of a sample out of our shards."""
    from PIL import Image

    stored = batch.frames[sample]
    return {number: Image.open(BytesIO(unit)) for number, unit in zip(stored.numbers, stored.units, strict=True)}


def from_list(database: ListReader, batch: PlannedBatch, sample: int) -> Pictures:
    """Pictures of a sample out of a database of lists."""
    from PIL import Image

    numbers = batch.frames[sample].numbers
    units = database(int(batch.index[sample]), numbers)
    return {number: Image.open(BytesIO(unit)) for number, unit in zip(numbers, units, strict=True)}


def from_decord(paths: Sequence[Path], batch: PlannedBatch, sample: int) -> Pictures:
    """Pictures of a sample out of an MP4 file by decord."""
    from PIL import Image

    decord: Any = import_module("decord")  # perhaps not installed where types are checked
    numbers = batch.frames[sample].numbers
    reader = decord.VideoReader(str(paths[int(batch.index[sample])]), num_threads=1)
    pixels = reader.get_batch(list(numbers)).asnumpy()
    return {number: Image.fromarray(one) for number, one in zip(numbers, pixels, strict=True)}


def from_pyav(paths: Sequence[Path], batch: PlannedBatch, sample: int) -> Pictures:
    """Pictures of a sample out of an MP4 file by PyAV: a jump to the key frame before, then on to each frame."""
    import av

    numbers = batch.frames[sample].numbers
    wanted, found = set(numbers), {}
    with av.open(str(paths[int(batch.index[sample])])) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        ticks = stream.duration / stream.frames
        container.seek(round(numbers[0] * ticks), stream=stream, backward=True)
        for frame in container.decode(stream):
            place = round(frame.pts / ticks)
            if place in wanted:
                found[place] = frame.to_image()
            if len(found) == len(wanted):
                break
    return found


def carried_out(source: ClipSource, read: Callable[[PlannedBatch, int], Pictures]) -> Iterator[int]:
    """Carry plans out frame by frame with Pillow; gives the number of clips of each step."""
    step = 0
    while True:
        batch = source(step)
        pictures = [read(batch, sample) for sample in range(len(batch.index))]
        views = len(batch.plans[0].clips)
        for view in range(views):
            clips = []
            for plan, mine in zip(batch.plans, pictures, strict=True):
                clip = plan.clips[view]
                clips.append(np.stack([cut(mine[number], clip, source.clip_format.size) for number in clip.frames]))
            torch.from_numpy(np.stack(clips)).float().div_(255.0).permute(0, 4, 1, 2, 3)
        step += 1
        yield len(batch.index) * views


def cut(picture: Any, clip: ClipPlan, size: int) -> np.ndarray:
    """One frame of a clip by Pillow's operations, (size, size, 3) uint8."""
    from PIL import Image, ImageEnhance, ImageFilter, ImageOps

    box, change = clip.box, clip.photometric[0]
    picture = picture.convert("RGB").crop((box.left, box.top, box.left + box.width, box.top + box.height))
    picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    if clip.flip:
        picture = ImageOps.mirror(picture)
    if change.changes_colour:
        picture = ImageEnhance.Brightness(picture).enhance(change.brightness)
        picture = ImageEnhance.Contrast(picture).enhance(change.contrast)
        picture = ImageEnhance.Color(picture).enhance(change.saturation)
        hue, *others = picture.convert("HSV").split()
        turned = hue.point([(level + round(change.hue * 256 / 360)) % 256 for level in range(256)])
        picture = Image.merge("HSV", (turned, *others)).convert("RGB")
    if change.grey:
        picture = picture.convert("L").convert("RGB")
    if change.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(change.blur))
    return np.asarray(picture)
