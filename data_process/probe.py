"""What the header of a video file says, read from the text of `ffmpeg -i` (there is no ffprobe in the wheel)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from data_process import ffmpeg
from data_process.killable import Finished

PROBE_LIMIT_S = 60.0
_NTSC_BASES = (24, 30, 48, 60, 120)


@dataclass(frozen=True)
class StreamFacts:
    """What the header of a file says about its first video stream.

    Attributes:
        codec: ffmpeg's name of the codec.
        width: stored pixels, before rotation and pixel-aspect correction.
        height: stored pixels, likewise.
        rate: average frames per second, None where the header tells none.
        duration: seconds, None where the header has none.
        rotation: degrees clockwise that ffmpeg turns the picture.
        aspect: width to height of one pixel.
    """

    codec: str
    width: int
    height: int
    rate: Fraction | None
    duration: float | None
    rotation: float
    aspect: Fraction

    def display_size(self) -> tuple[int, int]:
        """(height, width) after pixel-aspect correction and rotation."""
        width, height = max(1, round(self.width * self.aspect)), self.height
        return (width, height) if round(self.rotation / 90) % 2 else (height, width)

    def stored_size(self, short_side: int) -> tuple[int, int]:
        """(height, width) of the frames to store: scaled down to a short side in pixels, never up."""
        height, width = self.display_size()
        scale = Fraction(min(short_side, height, width), min(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def described(self) -> dict[str, object]:
        """The facts as plain values, for a record's ``src`` and for reports."""
        return {
            "codec": self.codec,
            "w": self.width,
            "h": self.height,
            "fps": [self.rate.numerator, self.rate.denominator] if self.rate else None,
            "duration": self.duration,
            "rot": round(self.rotation),
            "sar": [self.aspect.numerator, self.aspect.denominator],
        }


def probe(path: Path, *, limit_factor: int = 1) -> StreamFacts | Finished:
    """Facts about the first video stream, or how ffmpeg ended where it finds none.

    Args:
        path: the video.
        limit_factor: of the time after which ffmpeg is killed.
    """
    limit_s = limit_factor * PROBE_LIMIT_S
    finished = ffmpeg.run([ffmpeg.executable(), "-nostdin", "-hide_banner", "-i", f"file:{path}"], limit_s=limit_s)
    if finished.status is None or finished.status < 0:
        return finished
    return _parse_probe(finished.messages) or finished


def _parse_probe(lines: tuple[str, ...]) -> StreamFacts | None:
    duration, stream, rotation = None, None, 0.0
    for line in lines:
        if match := re.match(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", line):
            duration = 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
        if line.startswith("Stream #"):
            if stream is not None:
                break
            if " Video: " in line and "attached pic" not in line:
                stream = line
        elif stream is not None and (match := re.search(r"rotation of (-?[\d.]+) degrees", line)):
            rotation = -float(match[1])
    if stream is None or not (size := re.search(r"[ ,](\d+)x(\d+)(?=[ ,\[]|$)", stream)):
        return None
    codec = re.search(r"Video: (\w+)", stream)
    # Where container and codec disagree ffmpeg prints the container's last, and it is what players follow.
    aspects = [Fraction(int(wide), int(high)) for wide, high in re.findall(r"SAR (\d+):(\d+)", stream) if int(high)]
    return StreamFacts(
        codec=codec[1] if codec else "unknown",
        width=int(size[1]),
        height=int(size[2]),
        rate=_rate(stream),
        duration=duration,
        rotation=rotation % 360,
        aspect=aspects[-1] if aspects and aspects[-1] else Fraction(1),
    )


def _rate(stream: str) -> Fraction | None:
    match = re.search(r"([\d.]+)(k?) fps\b", stream)
    if match is None or not float(match[1]):
        return None
    written = Fraction(match[1]) * (1000 if match[2] else 1)
    # ffmpeg prints two decimals: 29.97 stands for 30000/1001.
    for base in _NTSC_BASES:
        if abs(written - Fraction(base * 1000, 1001)) < Fraction(6, 1000):
            return Fraction(base * 1000, 1001)
    return written
