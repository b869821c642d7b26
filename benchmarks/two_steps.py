"""The originals' way from videos to a database: frame files first, lists of them in LMDB second.

A re-creation of CSTP's extraction and CoCLR's packing from their description, on which it is kind: no shell is started,
the frame rate is the source's own, so that no frame is stored twice, and the packing processes load nothing but what
they need.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.list_database import pack_folders
from data_process import ffmpeg
from data_process.probe import StreamFacts, probe
from data_process.source import SourceVideo


@dataclass(frozen=True)
class TwoSteps:
    """How the two steps run.

    Attributes:
        short_side: pixels of the frames.
        quality: ffmpeg's q:v.
        side_by_side: extractions at a time.
        workers: packing processes.
    """

    short_side: int
    quality: int
    side_by_side: int
    workers: int

    def run(self, videos: Sequence[SourceVideo], out: Path) -> int:
        """Fill `out/frames` and `out/lists.lmdb`; the number of stored frames."""
        frames = out / "frames"
        with ThreadPoolExecutor(self.side_by_side) as pool:
            list(pool.map(lambda video: self._extract(video, frames), videos))
        return pack_folders(frames, out / "lists.lmdb", workers=self.workers)

    def _extract(self, video: SourceVideo, frames: Path) -> None:
        """Frame files `CLASS/VIDEO/00001.jpg`, ..., by ffmpeg with its default threads."""
        # Stands for ffprobe, which the ffmpeg wheel lacks: both open the file and find its streams.
        facts = probe(video.path)
        if not isinstance(facts, StreamFacts):
            return
        target = frames / (video.class_name or "all") / video.path.stem
        target.mkdir(parents=True, exist_ok=True)
        scale = f"-1:{self.short_side}" if facts.width > facts.height else f"{self.short_side}:-1"
        rate = ["-r", str(facts.rate)] if facts.rate else []
        command = [ffmpeg.executable(), "-nostdin", "-v", "error", "-i", f"file:{video.path}", *rate]
        command += ["-q:v", str(self.quality), "-vf", f"scale={scale}", str(target / "%05d.jpg")]
        # Whether it went well is not looked at, as in the original.
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
