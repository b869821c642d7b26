"""Stored frames to pixels on the CPU, whatever they are stored as; the one place that knows how."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from data_process.errors import RunError
from data_process.frames import RGB, EncodedFrames
from data_process.records import VideoRecord


def decode(encoded: EncodedFrames, record: VideoRecord) -> dict[int, np.ndarray]:
    """Pixels of the given frames, by frame number.

    Returns:
        (height, width, 3) uint8 RGB for each frame; (height, width, 2) uint8 for optical flow, u and v around 128.

    Raises:
        RunError: for bytes that cannot be decoded or have another size than the record says, naming video and frame.
        InputError: where the decoder is not installed.
    """
    return dict(_CODECS[encoded.codec](encoded, record))


def _jpegs(encoded: EncodedFrames, record: VideoRecord) -> Iterator[tuple[int, np.ndarray]]:
    import simplejpeg

    for number, unit in zip(encoded.numbers, encoded.units, strict=True):
        try:
            pixels = simplejpeg.decode_jpeg(unit, "RGB", fastdct=False, fastupsample=False)
        except ValueError as error:
            raise _damaged(record, number, f"the stored JPEG cannot be decoded ({error})") from None
        yield number, _checked(pixels, record, number)


def _flow(encoded: EncodedFrames, record: VideoRecord) -> Iterator[tuple[int, np.ndarray]]:
    """U stands above v in one grey picture."""
    import simplejpeg

    for number, unit in zip(encoded.numbers, encoded.units, strict=True):
        try:
            pixels = simplejpeg.decode_jpeg(unit, "GRAY", fastdct=False, fastupsample=False)[:, :, 0]
        except ValueError as error:
            raise _damaged(record, number, f"the stored flow cannot be decoded ({error})") from None
        if len(pixels) % 2:
            raise _damaged(record, number, f"a flow picture has an even number of rows, this one {len(pixels)}")
        both = np.stack(np.split(pixels, 2), axis=2)
        yield number, _checked(both, record, number)


def _stream(encoded: EncodedFrames, record: VideoRecord) -> Iterator[tuple[int, np.ndarray]]:
    from data_process.mp4 import StreamError, decode_stream

    try:
        for number, pixels in decode_stream(encoded.units[0], encoded.numbers):
            yield number, _checked(pixels, record, number)
    except StreamError as error:
        raise RunError(f"{record.id}: the stored video cannot be decoded ({error})") from None


def _pixels(encoded: EncodedFrames, record: VideoRecord) -> Iterator[tuple[int, np.ndarray]]:
    shape = (record.height, record.width, 3)
    for number, unit in zip(encoded.numbers, encoded.units, strict=True):
        if len(unit) != math.prod(shape):
            raise _damaged(record, number, f"{len(unit)} bytes are not {record.height}x{record.width} pixels")
        yield number, np.frombuffer(unit, np.uint8).reshape(shape)


_CODECS: dict[str, Callable[[EncodedFrames, VideoRecord], Iterator[tuple[int, np.ndarray]]]] = {
    "jpeg": _jpegs,
    "mp4": _stream,
    "flow-jpeg": _flow,
    RGB: _pixels,
}


def _damaged(record: VideoRecord, number: int, what: str) -> RunError:
    return RunError(f"{record.id}, frame {number}: {what}")


def _checked(pixels: np.ndarray, record: VideoRecord, number: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    if (height, width) != (record.height, record.width):
        raise RunError(
            f"{record.id}, frame {number} has {height}x{width} pixels, its record says {record.height}x{record.width}"
        )
    return pixels
