"""Small real video files and JPEG frames for tests, the same bytes on every call."""

import subprocess
from pathlib import Path

import numpy as np
import simplejpeg

from data_process import ffmpeg
from data_process.shard_writer import write_dataset


def pictures(seed, *, frames, height, width):
    """(frames, height, width, 3) uint8: coarse noise that drifts, so that neighbouring frames differ."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + 2, (width + 2 * frames) // 4 + 2, 3), dtype=np.uint8)
    wide = coarse.repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([wide[:height, 2 * frame : 2 * frame + width] for frame in range(frames)])


def drifting(across, down, *, frames, height, width, seed=0):
    """(frames, height, width) uint8: a soft texture that moves by so many pixels a frame, whole or not."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [(*rng.uniform(-0.35, 0.35, 2), rng.uniform(0, 6)) for _ in range(40)]
    levels = [
        sum(np.cos(a * (columns - across * t) + b * (rows - down * t) + phase) for a, b, phase in waves)
        for t in range(frames)
    ]
    return np.clip(128 + 12 * np.stack(levels), 0, 255).astype(np.uint8)


def write_video(
    path, *, seed=0, frames=24, height=64, width=80, fps=25, before=(), after=(), black=False, content=None
):
    """An H.264 (or whatever `after` asks for) file of `pictures`, or of `content` (frames, height, width, 3) uint8;
    `before` and `after` are further ffmpeg words."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        content = pictures(seed, frames=frames, height=height, width=width)
    frames, height, width = content.shape[:3]
    if black:
        content = np.zeros_like(content)
    command = [ffmpeg.executable(), "-nostdin", "-y", "-v", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0"]
    command += [*before, "-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-g", "8", "-pix_fmt", "yuv420p"]
    command += [*after, f"file:{path}"]
    subprocess.run(command, input=content.tobytes(), check=True, capture_output=True)
    return path


def jpegs(seed, *, frames=20, height=32, width=40):
    """List of JPEG bytes."""
    return [
        simplejpeg.encode_jpeg(np.ascontiguousarray(one))
        for one in pictures(seed, frames=frames, height=height, width=width)
    ]


def flow_jpegs(seed, *, frames, height=32, width=40):
    """List of JPEG bytes of optical flow: u above v, grey levels around 128."""
    rows, columns = np.mgrid[: 2 * height, :width]
    waves = np.random.default_rng(seed).uniform(-0.2, 0.2, (frames, 2))
    levels = [128 + 60 * np.sin(down * rows + across * columns) for down, across in waves]
    return [simplejpeg.encode_jpeg(one.astype(np.uint8)[:, :, None], colorspace="GRAY") for one in levels]


def small_dataset(root, *, videos=10, videos_per_shard=4, frames=20, classes=("a", "b"), flow=False):
    """An indexed dataset: two thirds train, one third test, the videos' frame counts all different.

    With `flow` the optical flow of these videos, which has one frame less.
    """
    return write_dataset(
        root,
        [
            (
                {
                    "id": f"{classes[number % len(classes)]}/video {number}",
                    "label": number % len(classes),
                    "split": "test" if number % 3 == 2 else "train",
                    "codec": "flow-jpeg" if flow else "jpeg",
                    "width": 40,
                    "height": 32,
                    "fps": (30000, 1001),
                },
                (flow_jpegs if flow else jpegs)(number, frames=frames + number - flow),
            )
            for number in range(videos)
        ],
        classes=classes,
        videos_per_shard=videos_per_shard,
    )


def write_many(folder, count, *, height=48, width=64, fps=25):
    """Many small H.264 files by one call of ffmpeg, `000.mp4`, ..., all of other content, 16 to 22 frames each."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    ends = np.cumsum([16 + number % 7 for number in range(count)])
    content = pictures(count, frames=int(ends[-1]), height=height, width=width)
    command = [ffmpeg.executable(), "-nostdin", "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0", "-c:v", "libx264", "-preset", "ultrafast"]
    command += ["-threads", "1", "-pix_fmt", "yuv420p", "-g", "1000", "-bf", "0", "-sc_threshold", "0"]
    command += ["-force_key_frames", ",".join(f"{end / fps:.3f}" for end in ends[:-1]), "-f", "segment"]
    command += ["-segment_frames", ",".join(map(str, ends[:-1])), "-reset_timestamps", "1", f"{folder}/%03d.mp4"]
    subprocess.run(command, input=content.tobytes(), check=True, capture_output=True)
    return sorted(Path(folder).glob("*.mp4"))
