"""The ffmpeg program: finding it, the command that turns a video into JPEGs, and running it so that it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from data_process.errors import InputError


@dataclass(frozen=True)
class Finished:
    """What a run of ffmpeg left.

    Attributes:
        status: exit status; negative for a signal; None where it was ended at the time limit.
        output: standard output.
        messages: complaints on standard error, one a line, without addresses.
        times: presentation times of the frames in the output, microseconds, growing; one may be there whose frame is
            not.
    """

    status: int | None
    output: bytes
    messages: tuple[str, ...]
    times: tuple[int, ...] = ()


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


def run(command: list[str], *, limit_s: float, pass_fd: int | None = None) -> Finished:
    """Run ffmpeg in its own process group; at the time limit the whole group is killed."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=() if pass_fd is None else (pass_fd,),
    )
    try:
        output, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        return Finished(None, output, _clean(errors))
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return Finished(process.returncode, output, _clean(errors))


def _clean(errors: bytes) -> tuple[str, ...]:
    lines = (line.strip() for line in errors.decode(errors="replace").splitlines())
    return tuple(re.sub(r" @ 0x[0-9a-f]+", "", line) for line in lines if line)


def decode(
    path: Path, *, size: tuple[int, int], keep_every: int, quality: int, max_bytes: int, limit_s: float
) -> Finished:
    """JPEGs of a video's frames, back to back, and their times.

    Real frames only: the default rate mode would repeat or drop frames of files with a variable rate or a late start.

    Args:
        path: the video.
        size: (height, width) of the JPEGs, after rotation and pixel-aspect correction.
        keep_every: 1 keeps all frames, 2 every second one, ...
        quality: ffmpeg's q:v, 2 is best.
        max_bytes: the output stops there.
        limit_s: seconds after which ffmpeg is killed.
    """
    with tempfile.TemporaryFile() as times:
        command = _jpeg_command(path, size, keep_every, quality, max_bytes, times_fd=times.fileno())
        finished = run(command, limit_s=limit_s, pass_fd=times.fileno())
        times.seek(0)
        return replace(finished, times=tuple(int(line) for line in times.read().split()))


def _jpeg_command(
    path: Path, size: tuple[int, int], keep_every: int, quality: int, max_bytes: int, *, times_fd: int
) -> list[str]:
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
        "stats_enc_pre": f"pipe:{times_fd}",
        "stats_enc_pre_fmt": "{pts}",
    }
    output = ffmpeg.output(stream, "pipe:1", **options)
    output = output.global_args("-nostdin", "-nostats", "-v", "error")
    return [str(word) for word in ffmpeg.compile(output, cmd=executable())]
