"""A labelled set of motion videos as real H.264 files, in folders that `intravid build` takes."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from data_process.cores import available_cores
from data_process.errors import InputError, RunError
from data_process.motion_poses import CLASSES
from data_process.motion_world import LEVELS, render
from data_process.progress import show_progress

SETTINGS_FILE = "motion_set.json"
VERSION = 1
"""Raised whenever the same settings would give other videos."""

FPS = 25
QUANTISER = 24  # H.264 QP; 34 dB and 50 kB for 64 frames of 64 x 64 at level default
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True)
class MotionSetConfig:
    """What decides every byte of a motion set.

    Attributes:
        videos: videos for training; video i is of class i mod 8.
        test_videos: videos for testing, likewise.
        seed: of all random draws.
        level: ``plain``, ``default``, ``medium`` or ``hard``, see `data_process.motion_world.LEVELS`.
        size: height and width, pixels; even, at least 32. All lengths grow with it.
        frames: of every video, at 25 a second.
    """

    videos: int = 400
    test_videos: int = 160
    seed: int = 0
    level: str = "default"
    size: int = 64
    frames: int = 64

    def __post_init__(self) -> None:
        if self.videos < 0 or self.test_videos < 0 or self.videos + self.test_videos == 0:
            raise InputError(
                f"a motion set of {self.videos} training and {self.test_videos} test videos was asked for; "
                "neither may be negative and one must be positive: see --videos and --test-videos"
            )
        if not 0 <= self.seed < 2**64:
            raise InputError(f"seed {self.seed} must lie between 0 and 2^64 - 1: see --seed")
        if self.level not in LEVELS:
            raise InputError(f"unknown level {self.level!r}; --level takes {', '.join(LEVELS)}")
        if self.size < 32 or self.size % 2:
            raise InputError(f"size {self.size} must be even (H.264 halves the colours) and at least 32: see --size")
        if self.frames < 2:
            raise InputError(f"{self.frames} frames cannot show a motion; --frames must be at least 2")

    @property
    def items(self) -> tuple[MotionVideo, ...]:
        """All videos, training first."""
        counts = {"train": self.videos, "test": self.test_videos}
        return tuple(MotionVideo(split, number) for split, count in counts.items() for number in range(count))


@dataclass(frozen=True)
class MotionVideo:
    """One video of a set; with the set's configuration it decides every byte of the file.

    Attributes:
        split: ``train`` or ``test``.
        number: from 0 in each split.
    """

    split: str
    number: int

    @property
    def motion(self) -> str:
        """Name of the class."""
        return CLASSES[self.number % len(CLASSES)]

    @property
    def path(self) -> Path:
        """Place of the file in the set."""
        return Path(self.split, self.motion, f"{self.number:05d}.mp4")


def write_motion_set(out: Path, config: MotionSetConfig, *, jobs: int | None = None) -> int:
    """Write ``out/SPLIT/CLASS/NUMBER.mp4`` for all videos; return how many were written now.

    A file appears under its name only when it is complete, so a second run does what is left. The bytes depend on the
    configuration (and on the versions of ffmpeg and numpy), not on `jobs`. One run at a time may write to a folder.

    Args:
        out: folder; new, empty, or of an interrupted run with the same configuration.
        config: what to write.
        jobs: videos at a time, each with one single-threaded ffmpeg; default is one a core.

    Raises:
        InputError: if the folder holds something else.
        RunError: if ffmpeg fails or the disk is full; finished videos stay.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"{jobs} jobs cannot write videos; --jobs must be at least 1")
    try:
        _claim(out, config)
        left = [item for item in config.items if not (out / item.path).exists()]
        for folder in {(out / item.path).parent for item in left}:
            folder.mkdir(parents=True, exist_ok=True)
        _write_all(out, config, left, jobs or available_cores())
    except OSError as error:
        raise RunError(
            f"writing the motion set to {out} failed: {error}; finished videos are kept, the same command goes on"
        ) from error
    return len(left)


def _claim(out: Path, config: MotionSetConfig) -> None:
    """Write the settings into a new folder, or check that an old one has the same."""
    wanted = {"version": VERSION, **asdict(config), "fps": FPS, "classes": list(CLASSES)}
    settings = out / SETTINGS_FILE
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; a folder that is new or empty was expected")
    out.mkdir(parents=True, exist_ok=True)
    if settings.exists():
        found = _read_settings(settings)
        if differing := [name for name in wanted if found.get(name) != wanted[name]]:
            told = ", ".join(f"{name} {found.get(name)!r} (now {wanted[name]!r})" for name in differing)
            raise InputError(
                f"{out} holds a motion set of other settings: {told}; choose another folder, or the same settings"
            )
        for leftover in out.glob(f"{_UNFINISHED}*"):
            leftover.unlink()
        return
    if any(out.iterdir()):
        raise InputError(f"{out} is not empty and holds no {SETTINGS_FILE}; choose a new or empty folder")
    aside = settings.with_suffix(".tmp")
    aside.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    aside.replace(settings)


def _read_settings(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); delete the folder, or choose another") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no settings; delete the folder, or choose another")
    return found


def _write_all(out: Path, config: MotionSetConfig, items: list[MotionVideo], jobs: int) -> None:
    """Write the videos in threads; the first failure stops the others after their current video."""
    done = len(config.items) - len(items)
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="synth")
    with show_progress("synth", len(config.items), unit="videos", done=done) as progress:
        try:
            for video in as_completed([pool.submit(_write_video, out, config, item) for item in items]):
                video.result()
                progress.advance()
        finally:
            pool.shutdown(cancel_futures=True)


def _write_video(out: Path, config: MotionSetConfig, item: MotionVideo) -> None:
    frames = render(
        config.seed, split=item.split, number=item.number, motion=item.motion,
        level=LEVELS[config.level], size=config.size, num_frames=config.frames,
    )  # fmt: skip
    # Neither a folder nor a name that ends like a video: a build of a half-written set must not trip over it.
    aside = out / f"{_UNFINISHED}{item.split}-{item.number}"
    command = encode_command(aside, config.size)
    ended = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False)
    if ended.returncode:
        aside.unlink(missing_ok=True)
        told = " ".join(ended.stderr.decode(errors="replace").split())
        raise RunError(
            f"ffmpeg could not write {item.path} (exit status {ended.returncode}): {told or 'no message'}; "
            "finished videos are kept, the same command goes on"
        )
    os.replace(aside, out / item.path)


def encode_command(path: Path, size: int) -> list[str]:
    """Command that reads RGB frames from its input and writes H.264 at `path`.

    Each frame is coded alone, with a fixed quantiser. Prediction between frames would break what the set promises:
    with ``crf 20`` and ordinary groups of pictures, where noise was skipped tells what moved before, and a classifier
    of noise statistics read the class from the last frame in 19.5 % of 400 test videos (chance 12.5, standard error
    1.7). One thread, since x264's bytes depend on their number.
    """
    try:
        import ffmpeg
    except ImportError:
        raise InputError("ffmpeg-python is missing; `pip install ffmpeg-python` brings it") from None
    from data_process.ffmpeg import executable

    source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{size}x{size}", framerate=FPS)
    target = source.output(
        f"file:{path}", vcodec="libx264", preset="veryfast", qp=QUANTISER, g=1, pix_fmt="yuv420p", threads=1,
        fflags="+bitexact", map_metadata=-1, movflags="+faststart", format="mp4", **{"flags:v": "+bitexact"},
    )  # fmt: skip
    return target.global_args("-nostdin", "-v", "error", "-y").compile(cmd=executable())
