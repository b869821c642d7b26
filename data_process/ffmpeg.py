"""The ffmpeg program: what a file holds, the command that turns it into JPEGs, and running it so that it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from data_process.errors import InputError

PROBE_LIMIT_S = 60.0
_NTSC_BASES = (24, 30, 48, 60, 120)
_PROGRESS_KEYS = re.compile(
    r"(frame|fps|stream_\d+_\d+_\S+|bitrate|total_size|out_time_us|out_time_ms|out_time|dup_frames|drop_frames|speed"
    r"|progress)=\s*(.*)"
)


@dataclass(frozen=True)
class StreamFacts:
    """What the header of a file says about its first video stream.

    Attributes:
        codec: ffmpeg's name of the codec.
        width: stored pixels, before rotation and pixel-aspect correction.
        height: stored pixels, likewise.
        rate: average frames per second, None where the header tells none.
        nominal_rate: the rate that the timestamps suggest (ffmpeg's tbr).
        duration: seconds, None where the header has none.
        rotation: degrees clockwise that ffmpeg turns the picture.
        aspect: width to height of one pixel.
    """

    codec: str
    width: int
    height: int
    rate: Fraction | None
    nominal_rate: Fraction
    duration: float | None
    rotation: float
    aspect: Fraction

    @property
    def is_variable(self) -> bool:
        """Whether average and nominal rate differ by more than one per cent."""
        return self.rate is None or abs(self.rate - self.nominal_rate) > self.nominal_rate / 100

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
            "vfr": self.is_variable,
        }


@dataclass(frozen=True)
class Finished:
    """What a run of ffmpeg left.

    Attributes:
        status: exit status; negative for a signal; None where it was ended at the time limit.
        output: standard output.
        messages: complaints on standard error, one a line, without addresses.
        seconds: presentation time of the end of the output, None where unknown.
    """

    status: int | None
    output: bytes
    messages: tuple[str, ...]
    seconds: float | None


@lru_cache(maxsize=1)
def executable() -> str:
    """Path of the ffmpeg that comes with imageio-ffmpeg; INTRAVID_FFMPEG names another.

    Raises:
        InputError: where there is none.
    """
    chosen = os.environ.get("INTRAVID_FFMPEG")
    if chosen:
        if not os.access(chosen, os.X_OK):
            raise InputError(f"INTRAVID_FFMPEG={chosen} is not a program; unset it to use the bundled ffmpeg")
        return chosen
    try:
        import imageio_ffmpeg
    except ImportError:
        raise InputError("ffmpeg is missing; `pip install imageio-ffmpeg` brings it") from None
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise InputError(f"imageio-ffmpeg brought no program for this machine ({error}); set INTRAVID_FFMPEG") from None


@lru_cache(maxsize=1)
def version() -> str:
    """First line that ffmpeg prints of itself; part of a build's plan, since other versions may give other bytes.

    Raises:
        InputError: where the program does not run.
    """
    try:
        printed = subprocess.run([executable(), "-version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(
            f"{executable()} does not run ({error}); unset INTRAVID_FFMPEG or name a working one"
        ) from None
    if not printed.startswith("ffmpeg version"):
        raise InputError(f"{executable()} is not ffmpeg; unset INTRAVID_FFMPEG or name a working one")
    return printed.splitlines()[0].split(" Copyright")[0]


def run(command: list[str], *, limit_s: float) -> Finished:
    """Run ffmpeg in its own process group; at the time limit the whole group is killed."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        return Finished(None, output, *_parse_messages(errors))
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return Finished(process.returncode, output, *_parse_messages(errors))


def _parse_messages(errors: bytes) -> tuple[tuple[str, ...], float | None]:
    messages, seconds = [], None
    for line in errors.decode(errors="replace").splitlines():
        if match := _PROGRESS_KEYS.fullmatch(line.strip()):
            if match[1] == "out_time_us" and match[2].lstrip("-").isdigit():
                seconds = int(match[2]) / 1e6
        elif line.strip():
            messages.append(re.sub(r" @ 0x[0-9a-f]+", "", line.strip()))
    return tuple(messages), seconds


def probe(path: Path) -> StreamFacts | tuple[str, ...]:
    """Facts about the first video stream, or ffmpeg's complaints where it finds none."""
    finished = run([executable(), "-nostdin", "-hide_banner", "-i", f"file:{path}"], limit_s=PROBE_LIMIT_S)
    if finished.status is None:
        return (f"no answer within {PROBE_LIMIT_S:.0f} s",)
    facts = _parse_probe(finished.messages)
    return facts if facts is not None else finished.messages


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
    aspect = re.search(r"SAR (\d+):(\d+)", stream)
    nominal = _rate(stream, "tbr") or _rate(stream, "fps") or Fraction(25)
    return StreamFacts(
        codec=codec[1] if codec else "unknown",
        width=int(size[1]),
        height=int(size[2]),
        rate=_rate(stream, "fps"),
        nominal_rate=nominal,
        duration=duration,
        rotation=rotation % 360,
        aspect=Fraction(int(aspect[1]), int(aspect[2]))
        if aspect and int(aspect[1]) and int(aspect[2])
        else Fraction(1),
    )


def _rate(stream: str, unit: str) -> Fraction | None:
    match = re.search(rf"([\d.]+)(k?) {unit}\b", stream)
    if match is None or not float(match[1]):
        return None
    written = Fraction(match[1]) * (1000 if match[2] else 1)
    # ffmpeg prints two decimals: 29.97 stands for 30000/1001.
    for base in _NTSC_BASES:
        if abs(written - Fraction(base * 1000, 1001)) < Fraction(6, 1000):
            return Fraction(base * 1000, 1001)
    return written


def jpeg_command(path: Path, *, size: tuple[int, int], keep_every: int, quality: int, max_bytes: int) -> list[str]:
    """Command that writes every `keep_every`-th frame of the first video stream as JPEG to standard output.

    Real frames only: the default rate mode would repeat or drop frames of files with a variable rate or a late start.

    Args:
        path: the video.
        size: (height, width) of the JPEGs, after rotation and pixel-aspect correction.
        keep_every: 1 keeps all frames.
        quality: ffmpeg's q:v, 2 is best.
        max_bytes: the output stops there.
    """
    import ffmpeg

    # An absolute path behind file: keeps names with a leading dash, a colon or a bracket from being read as options.
    stream = ffmpeg.input(f"file:{path.resolve()}", threads=1)["V:0"]
    if keep_every > 1:
        stream = stream.filter("select", f"not(mod(n,{keep_every}))")
    stream = stream.filter("scale", size[1], size[0], flags="bicubic+accurate_rnd+bitexact").filter("setsar", 1)
    # The encoder refuses a time stamp that does not grow, which variable rates and damaged files have.
    stream = stream.filter("settb", "AVTB").filter(
        "setpts", "st(0,if(isnan(PTS),0,PTS));if(eq(N,0),ld(0),max(ld(0),PREV_OUTPTS+1))"
    )
    options = {
        "enc_time_base": "1:1000000",
        "fps_mode": "passthrough",
        "c:v": "mjpeg",
        "q:v": quality,
        "pix_fmt": "yuvj420p",
        "flags:v": "+bitexact",
        "threads": 1,
        "fs": max_bytes,
        "f": "image2pipe",
    }
    output = ffmpeg.output(stream, "pipe:1", **options)
    output = output.global_args("-nostdin", "-nostats", "-v", "error", "-progress", "pipe:2")
    return [str(word) for word in ffmpeg.compile(output, cmd=executable())]
