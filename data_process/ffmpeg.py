"""The ffmpeg program: finding it, the commands that make frames of a video, and running it so that it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import IO

from data_process.errors import InputError

_TICKS = 1_000_000
"""A second, in the unit of frames' times."""

_ENDLESS = 1 << 62
"""Bytes that no output reaches, and that ffmpeg still reads as a number."""

_SHORTEST_TURN_S = 0.05
"""Least time between two looks at a clock that may stand still."""


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


Clock = Callable[[], float]
"""Seconds since any moment; one that stands still while ffmpeg waits for us charges only ffmpeg for its time."""


def run(
    command: list[str], *, limit_s: float, pass_fds: tuple[int, ...] = (), clock: Clock = time.monotonic
) -> Finished:
    """Run ffmpeg in its own process group; when the clock reaches the time limit the whole group is killed."""
    process = subprocess.Popen(
        [*_dies_with_its_parent(), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=pass_fds,
    )
    try:
        with _lock:
            if _stopped:
                raise KeyboardInterrupt
            _running.add(process)
        output, errors = _communicate(process, clock() + limit_s, clock)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        return Finished(None, output, _clean(errors))
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        _running.discard(process)
    return Finished(process.returncode, output, _clean(errors))


def _communicate(process: subprocess.Popen[bytes], end: float, clock: Clock) -> tuple[bytes, bytes]:
    """What a process writes until it ends; a clock that stood still gives it another turn."""
    while True:
        try:
            return process.communicate(timeout=max(end - clock(), _SHORTEST_TURN_S))
        except subprocess.TimeoutExpired:
            if clock() >= end:
                raise


_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.RLock()  # a signal handler may come upon its own thread inside
_stopped = False


def is_stopped() -> bool:
    """Whether `stop_all` was called."""
    return _stopped


def allow() -> None:
    """Let ffmpeg be started again after `stop_all`."""
    global _stopped
    _stopped = False


def stop_all() -> None:
    """Kill what runs, and let nothing be started: threads that wait for theirs end at once."""
    global _stopped
    with _lock:
        _stopped = True
        for process in list(_running):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@lru_cache(maxsize=1)
def _dies_with_its_parent() -> tuple[str, ...]:
    """A program in front that has the kernel kill ffmpeg with us, also where we are killed; none where it is missing.

    (The thread that started it counts as the parent; ours outlive what they start.)
    """
    program = shutil.which("setpriv") if sys.platform == "linux" else None
    return (program, "--pdeathsig", "KILL", "--") if program else ()


def _clean(errors: bytes) -> tuple[str, ...]:
    lines = (line.strip() for line in errors.decode(errors="replace").splitlines())
    return tuple(re.sub(r" @ 0x[0-9a-f]+", "", line) for line in lines if line)


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
    with tempfile.TemporaryFile() as target:
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
    """Run to standard output or into an open file, with the frames' times."""
    with tempfile.TemporaryFile() as times:
        fds = (times.fileno(),) if target is None else (times.fileno(), target.fileno())
        name = "pipe:1" if target is None else f"/proc/self/fd/{target.fileno()}"
        command = _command(path, picture, options, name, times_fd=times.fileno(), only=only)
        finished = run(command, limit_s=picture.limit_s, pass_fds=fds, clock=clock)
        times.seek(0)
        return replace(finished, times=tuple(int(line) for line in times.read().split()))


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
