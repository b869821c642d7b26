"""Cutting a stream of JPEGs, as ffmpeg writes it to a pipe, into frames."""

from __future__ import annotations

from collections.abc import Iterator

_START, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def split_jpegs(stream: bytes) -> Iterator[bytes]:
    """Cut concatenated JPEGs apart.

    Marker segments before the scan are skipped by their length, since a table may hold the bytes of an end marker; the
    scan itself escapes ff, so that the next end marker is the frame's own.

    Raises:
        ValueError: for anything but a start marker between frames, or a last frame without its end.
    """
    start = 0
    while start < len(stream):
        if stream[start : start + 2] != _START:
            raise ValueError(f"byte {start} of the frames is not the beginning of a JPEG")
        position = start + 2
        while stream[position : position + 2] not in (_SCAN, b""):
            if stream[position] != 0xFF:
                raise ValueError(f"byte {position} of the frames is no marker")
            position += 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        end = stream.find(_END, position)
        if end < 0:
            raise ValueError("the last frame has no end: ffmpeg was cut off")
        yield stream[start : end + 2]
        start = end + 2
