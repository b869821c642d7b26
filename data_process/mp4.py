"""Records that are one file of H.264: single frames out of the middle, without decoding the rest."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from data_process.errors import InputError

GROUP = 8
"""Frames from one key frame to the next of the files that we write; a decoder starts at the one before."""


class StreamError(ValueError):
    """A file that cannot be decoded, or does not hold the frames that were asked for."""


def decode_stream(data: bytes, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of a file by number, as (number, (height, width, 3) uint8 RGB).

    All frames last equally long, as `ffmpeg.to_mp4` writes them. The decoder jumps to a key frame only where that saves
    frames, and every frame is known by its own time: a wrong jump is an error, not another picture.

    Args:
        data: the file.
        numbers: frame numbers, growing, none twice.

    Raises:
        StreamError: for a damaged file, or frames that it does not hold.
        InputError: where PyAV is not installed.
    """
    av = _pyav()
    try:
        with av.open(io.BytesIO(data), metadata_errors="ignore") as container:
            yield from _frames(av, container, list(numbers))
    except av.FFmpegError as error:
        raise StreamError(str(error)) from None


def count_frames(data: bytes) -> int:
    """Frames that a file gives when it is decoded from its beginning to its end.

    Raises:
        StreamError: where it is no video file, or the decoder finds damage (which it would otherwise paint over).
        InputError: where PyAV is not installed.
    """
    av = _pyav()
    try:
        with av.open(io.BytesIO(data), metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"err_detect": "explode"}
            return sum(1 for _ in container.decode(stream))
    except (av.FFmpegError, IndexError) as error:
        raise StreamError(str(error)) from None


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise InputError(
            "records of H.264 need PyAV; `pip install 'intravid[video]'` brings it, or build with --codec jpeg"
        ) from None
    return av


def _frames(av: Any, container: Any, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    if not container.streams.video or not container.streams.video[0].frames:
        raise StreamError("the file holds no video")
    stream = container.streams.video[0]
    # Threads of the decoder would delay the first frame by one a thread; other clips keep the cores busy.
    stream.codec_context.thread_count = 1
    ticks = Fraction(stream.duration, stream.frames)
    # Without accurate rounding the conversion to RGB is a level too dark.
    kind = av.video.reformatter.Interpolation
    exact = kind.BILINEAR | kind.ACCURATE_RND | kind.FULL_CHR_H_INT
    convert = av.video.reformatter.VideoReformatter()
    decoded, place = None, -1
    for number in wanted:
        if decoded is None or number // GROUP > (place + 1) // GROUP:
            container.seek(round(number * ticks), stream=stream, backward=True)
            decoded, place = container.decode(stream), -1
        for frame in decoded:
            place = round(frame.pts / ticks)
            if place >= number:
                break
        if place != number:
            raise StreamError(f"frame {number} is not there")
        yield number, convert.reformat(frame, format="rgb24", interpolation=exact, threads=1).to_ndarray()
