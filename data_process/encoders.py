"""Source videos to units, one function for each way of storing them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from data_process import ffmpeg
from data_process.errors import InputError
from data_process.ffmpeg import Picture
from data_process.frames import RGB
from data_process.jpeg_stream import split_jpegs
from data_process.killable import Finished
from data_process.mp4 import GROUP, StreamError, count_frames

_UNKNOWN_RATE = Fraction(25)


@dataclass(frozen=True)
class Encoded:
    """What a source became.

    Attributes:
        finished: how ffmpeg ended.
        units: as a record stores them.
        num_frames: frames that the units hold.
        num_decoded: frames of the source that they were made of.
        problem: why the units cannot be stored; empty where they can.
        extra: keys of the codec for the record's header.
    """

    finished: Finished
    units: list[bytes]
    num_frames: int
    num_decoded: int
    problem: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """One way of storing videos.

    Attributes:
        quality: its default.
        qualities: lowest and highest number, and what they mean.
        encode: (path, picture, rate or None, settings) to units.
        even: whether pictures need even sides.
    """

    quality: int
    qualities: tuple[int, int, str]
    encode: Callable[[Path, Picture, Fraction | None, Mapping[str, Any]], Encoded]
    even: bool = False


def _jpeg(path: Path, picture: Picture, rate: Fraction | None, settings: Mapping[str, Any]) -> Encoded:
    finished = ffmpeg.to_jpegs(path, picture, quality=settings["quality"])
    try:
        units, problem = list(split_jpegs(finished.output)), ""
    except ValueError as error:
        units, problem = [], str(error)
    return Encoded(finished, units, len(units), len(units), problem)


def _mp4(path: Path, picture: Picture, rate: Fraction | None, settings: Mapping[str, Any]) -> Encoded:
    finished = ffmpeg.to_mp4(path, picture, rate=rate or _UNKNOWN_RATE, crf=settings["quality"], group=GROUP)
    try:
        frames = count_frames(finished.output) if finished.output else 0
    except StreamError as error:
        return Encoded(finished, [], 0, 0, f"what the encoder wrote cannot be read ({error})")
    if frames != len(finished.times):
        return Encoded(finished, [], 0, 0, f"{frames} frames can be decoded, {len(finished.times)} went in")
    return Encoded(finished, [finished.output] if frames else [], frames, frames)


def _flow(path: Path, picture: Picture, rate: Fraction | None, settings: Mapping[str, Any]) -> Encoded:
    from data_process.grey_frames import GreyFrames
    from data_process.optical_flow import flow_units

    how = {name: settings[name] for name in ("algorithm", "bound", "quality")}
    with GreyFrames(path, picture) as frames:
        units = _until_full(flow_units(frames, **how), picture.max_bytes)
    extra = {"alg": settings["algorithm"], "bound": float(settings["bound"])}
    return Encoded(frames.finished, units, len(units), frames.num_frames, extra=extra)


def _until_full(units: Iterable[bytes], max_bytes: int) -> list[bytes]:
    """Units up to the one that reaches the limit, as ffmpeg does it."""
    kept, size = [], 0
    for unit in units:
        kept.append(unit)
        size += len(unit)
        if size >= max_bytes:
            break
    return kept


def _times(path: Path, picture: Picture, rate: Fraction | None, settings: Mapping[str, Any]) -> Encoded:
    """Of files that are read where they are: empty units, and what `ffmpeg.to_rgb` needs to find the frames again."""
    finished = ffmpeg.frame_times(path, picture)
    frames = len(finished.times)
    return Encoded(finished, [b""] * frames, frames, frames, extra={"times": finished.times, "picture": picture})


ENCODERS = {
    "jpeg": Encoder(3, (1, 31, "ffmpeg's JPEG scale runs from 1 (best) to 31"), _jpeg),
    "mp4": Encoder(21, (0, 51, "x264's scale runs from 0 (without loss) to 51"), _mp4, even=True),
    "flow-jpeg": Encoder(90, (1, 100, "the JPEG scale of flow runs from 1 to 100 (best)"), _flow),
    RGB: Encoder(0, (0, 0, "pixels as they are have no quality"), _times),
}


def checked_quality(codec: str, quality: int | None) -> int:
    """The quality asked for, or the codec's default.

    Raises:
        InputError: for an unknown codec or a number outside of its scale.
    """
    if codec not in ENCODERS:
        raise InputError(f"codec {codec}: expected one of {', '.join(ENCODERS)}")
    encoder = ENCODERS[codec]
    low, high, meaning = encoder.qualities
    if quality is not None and not low <= quality <= high:
        raise InputError(f"quality {quality}: {meaning}")
    return encoder.quality if quality is None else quality
