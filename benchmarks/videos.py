"""Videos to build from, where a user has none at hand: as a download site hands them out, in two sizes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from data_process import ffmpeg

# Width x height and bits a second of the sources in the reference measurements.
_KINDS = (("640x360", "470k"), ("1280x720", "1500k"))
_SEEDS = (1, 2)


def make_videos(folder: Path, *, count: int, seconds: float) -> None:
    """Fill a folder with H.264 files at 25 frames a second, half of them 360p and half 720p.

    Drifting colours and moving patterns, turned back and forth, under noise. A few are encoded; the others are links to
    them under names of their own, since transcoding the same file again costs the same.

    Args:
        folder: gets a folder a class.
        count: number of videos.
        seconds: length of each.
    """
    made: list[Path] = []
    for number in range(count):
        path = folder / f"class {number % 4}" / f"video {number:04d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < len(_KINDS) * len(_SEEDS):
            size, rate = _KINDS[number % len(_KINDS)]
            _encode(path, size, rate, seconds, seed=_SEEDS[number // len(_KINDS)])
            made.append(path)
        else:
            os.link(made[number % len(made)], path)


def _encode(path: Path, size: str, rate: str, seconds: float, *, seed: int) -> None:
    colours = f"gradients=s={size}:r=25:n=6:speed=0.05:seed={seed}:d={seconds}"
    patterns = f"testsrc2=s={size}:r=25:d={seconds}"
    mixed = f"[0][1]blend=all_mode=average,noise=alls=12:allf=t:all_seed={seed},rotate=0.05*sin(2*t)"
    command = [ffmpeg.executable(), "-nostdin", "-y", "-v", "error", "-f", "lavfi", "-i", colours]
    command += ["-f", "lavfi", "-i", patterns, "-filter_complex", mixed, "-pix_fmt", "yuv420p"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-b:v", rate, f"file:{path}"]
    subprocess.run(command, check=True)
