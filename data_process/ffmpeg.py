"""The ffmpeg program: finding it, and the commands that make frames of a video."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import IO

from data_process.errors import InputError, RunError
from data_process.killable import Clock, Finished, run

_TICKS = 1_000_000
"""A second, in the unit of frames' times."""

_ENDLESS = 1 << 62
"""Bytes that no output reaches, and that ffmpeg still reads as a number."""


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


@dataclass(frozen=True)
class Picture:
    """What is made of every frame of a video.

    Attributes:
        size: (height, width) after rotation and pixel-aspect correction.
        keep_every: 1 keeps all frames, 2 every second one, ...
        limit_s: seconds after which ffmpeg is killed.
        max_bytes: the output stops there.
    """

    size: tuple[int, int]
    keep_every: int
    limit_s: float
    max_bytes: int


def to_jpegs(path: Path, picture: Picture, *, quality: int) -> Finished:
    """JPEGs of a video's frames, back to back, and their times; `quality` is ffmpeg's q:v, 2 is best."""
    return _run(path, picture, _jpeg_options(quality))


def jpeg_command(path: Path, picture: Picture, *, quality: int) -> list[str]:
    """The transcoding of `to_jpegs` and nothing else: no times of the frames; its processor time is a build's floor."""
    return _command(path, picture, _jpeg_options(quality), "pipe:1")


def _jpeg_options(quality: int) -> dict[str, object]:
    return {"c:v": "mjpeg", "q:v": quality, "pix_fmt": "yuvj420p", "flags:v": "+bitexact", "f": "image2pipe"}


def to_grey(path: Path, picture: Picture, target: IO[bytes], *, clock: Clock) -> Finished:
    """Grey pixels of a video's frames, height x width bytes each, into an open pipe; and the frames' times.

    Whoever reads them decides where they stop: `max_bytes` is of what is stored, which these are not.
    """
    options = {"c:v": "rawvideo", "pix_fmt": "gray", "f": "rawvideo"}
    return _run(path, replace(picture, max_bytes=_ENDLESS), options, target, clock=clock)


def to_mp4(path: Path, picture: Picture, *, rate: Fraction, crf: int, group: int) -> Finished:
    """One file of H.264 without B-frames, frame k at time k / rate (to a microsecond a frame), and the frames' own
    times.

    One thread, because x264's output depends on their number. The index stands in front, so that a reader needs no
    second look; that takes a seekable target.

    Args:
        path: the video.
        picture: what is kept; sizes must be even.
        rate: frames per second that the file says.
        crf: x264's quality, 0 is lossless; 18 to 24 are usual.
        group: frames from one key frame to the next.
    """
    step = round(_TICKS / rate)
    options = {
        "c:v": "libx264", "preset": "veryfast", "crf": crf, "g": group, "keyint_min": group, "sc_threshold": 0,
        "bf": 0, "pix_fmt": "yuv420p", "flags:v": "+bitexact+cgop", "fflags": "+bitexact", "map_metadata": -1,
        # Behind the encoder, since times that vary would make a file whose frames cannot be found by number.
        "bsf:v": f"setts=ts=N*{step}:duration={step}",
        "movflags": "+faststart", "f": "mp4",
    }  # fmt: skip
    with _memory_file() as target:
        finished = _run(path, picture, options, target)
        target.seek(0)
        return replace(finished, output=target.read())


def frame_times(path: Path, picture: Picture) -> Finished:
    """The times of the frames that the other functions would give, and nothing of the frames."""
    return _run(path, picture, {"c:v": "wrapped_avframe", "f": "null"})


def to_rgb(path: Path, picture: Picture, target: IO[bytes], times: Sequence[int]) -> Finished:
    """Pixels of the frames with the given times, height x width x 3 bytes each, into an open file; and their times.

    Frames are chosen by time and not by number, which begins anew where the size of a video changes midway. The file
    is read up to the last of them.
    """
    options = {"c:v": "rawvideo", "pix_fmt": "rgb24", "f": "rawvideo", "frames:v": len(times)}
    return _run(path, picture, options, target, only=times)


def _is_one_of(times: Sequence[int]) -> str:
    """Whether a frame has one of these growing times, for a filter: a search tree, since ffmpeg takes no deep sums."""
    if len(times) == 1:
        return f"eq(pts,{times[0]})"
    middle = len(times) // 2
    return f"if(lt(pts,{times[middle]}),{_is_one_of(times[:middle])},{_is_one_of(times[middle:])})"


def _run(
    path: Path,
    picture: Picture,
    options: Mapping[str, object],
    target: IO[bytes] | None = None,
    *,
    only: Sequence[int] | None = None,
    clock: Clock = time.monotonic,
) -> Finished:
    """Run to standard output or into an open file, with the frames' times.

    Raises:
        RunError: where there was no room for the temporary files: that is no fault of the video.
    """
    with _memory_file() as times:
        fds = (times.fileno(),) if target is None else (times.fileno(), target.fileno())
        name = "pipe:1" if target is None else f"/proc/self/fd/{target.fileno()}"
        command = _command(path, picture, options, name, times_fd=times.fileno(), only=only)
        finished = run(command, limit_s=picture.limit_s, pass_fds=fds, clock=clock)
        if any(os.strerror(errno.ENOSPC) in message for message in finished.messages):
            raise RunError(
                f"the disk is full: {tempfile.gettempdir()} has no room for the work on {path}. Free some space, or "
                "name another folder by TMPDIR, and run the same command: it goes on with the missing shards."
            )
        times.seek(0)
        return replace(finished, times=tuple(int(line) for line in times.read().split()))


def _memory_file() -> IO[bytes]:
    """A file that needs no disk, since a full one would be taken for a fault of the video."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("intravid"), "w+b")
    return tempfile.TemporaryFile()


def _command(
    path: Path,
    picture: Picture,
    options: Mapping[str, object],
    target: str,
    *,
    times_fd: int | None = None,
    only: Sequence[int] | None = None,
) -> list[str]:
    """Real frames only: the default rate mode would repeat or drop frames of variable rates and late starts."""
    import ffmpeg

    # An absolute path behind file: keeps names with a leading dash, a colon or a bracket from being read as options.
    stream = ffmpeg.input(f"file:{path.resolve()}", threads=1)["V:0"]
    if picture.keep_every > 1:
        stream = stream.filter("select", f"not(mod(n,{picture.keep_every}))")
    height, width = picture.size
    # JPEG knows one matrix for its colours, that of BT.601; videos of BT.709 would be read with the wrong one.
    how = {"flags": "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact", "out_color_matrix": "bt601"}
    stream = stream.filter("scale", width, height, **how).filter("setsar", 1)
    # The encoders refuse a time stamp that does not grow, which variable rates and damaged files have.
    stream = stream.filter("settb", "AVTB").filter(
        "setpts", "st(0,if(isnan(PTS),0,PTS));if(eq(N,0),ld(0),max(ld(0),PREV_OUTPTS+1))"
    )
    if only is not None:
        stream = stream.filter("select", _is_one_of(only))
    every = {
        "enc_time_base": f"1:{_TICKS}",
        "fps_mode": "passthrough",
        "threads": 1,
        # Otherwise the scaler starts a thread for every core of the machine, which costs more than it gives.
        "filter_complex_threads": 1,
        "fs": picture.max_bytes,
    }
    if times_fd is not None:
        every |= {"stats_enc_pre": f"pipe:{times_fd}", "stats_enc_pre_fmt": "{pts}"}
    output = ffmpeg.output(stream, target, **options, **every).global_args("-nostdin", "-nostats", "-v", "error", "-y")
    return [str(word) for word in ffmpeg.compile(output, cmd=executable())]
