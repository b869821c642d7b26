"""Frames of one video as they are stored: what a reader hands to a decoder."""

from __future__ import annotations

from dataclasses import dataclass

CODECS = ("jpeg", "mp4", "flow-jpeg")
"""How frames are stored: JPEGs, one file of H.264, or optical flow as grey JPEGs; their places stand in the index."""

STREAMS = frozenset({"mp4"})
"""Codecs whose records are one unit, from which frames cannot be cut out."""


PICTURES = frozenset({"jpeg", "flow-jpeg"})
"""Codecs whose units are JPEGs."""

RGB = "rgb"
"""Pixels as they are, (height, width, 3) bytes a unit: what is read from files that are no shards. Never stored."""


@dataclass(frozen=True)
class EncodedFrames:
    """Some frames of one video.

    Attributes:
        codec: one of `CODECS`, or `RGB`.
        numbers: frame numbers from 0, growing, none twice.
        units: as many encoded frames; or the one file that holds them all, for the codecs in `STREAMS`.
    """

    codec: str
    numbers: tuple[int, ...]
    units: tuple[bytes, ...]

    def __post_init__(self) -> None:
        expected = 1 if self.codec in STREAMS else len(self.numbers)
        if len(self.units) != expected:
            raise ValueError(f"{len(self.numbers)} frames of {self.codec} are {expected} units, got {len(self.units)}")
