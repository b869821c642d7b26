"""Grey frames of a video one after the other while ffmpeg decodes it: however long the video, few are in memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from data_process import ffmpeg
from data_process.ffmpeg import Picture
from data_process.killable import Finished


class GreyFrames:
    """The frames of a video in a `with` block; each is decoded when it is asked for, but for what a pipe holds.

    The time limit of the picture is of the waiting for ffmpeg. What the caller does with a frame may take longer than
    the whole decoding, and a slow algorithm must not look like a hung file.

    Args:
        path: the video.
        picture: what is made of its frames.
    """

    def __init__(self, path: Path, picture: Picture) -> None:
        self._path, self._picture = path, picture
        self._waiting = _Stopwatch()
        self._num_frames = 0
        self._finished: Finished | None = None

    def __enter__(self) -> GreyFrames:
        reader, writer = os.pipe()
        self._pipe = os.fdopen(reader, "rb")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grey")
        self._running: Future[Finished] = self._thread.submit(self._decode, writer)
        return self

    def _decode(self, writer: int) -> Finished:
        # Our own end of the pipe is closed when ffmpeg has ended, which ends the reading.
        with os.fdopen(writer, "wb") as target:
            return ffmpeg.to_grey(self._path, self._picture, target, clock=self._waiting.seconds)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames (height, width) uint8; a last one that was cut short is left out."""
        height, width = self._picture.size
        while True:
            with self._waiting:
                pixels = self._pipe.read(height * width)
            if len(pixels) < height * width:
                return
            self._num_frames += 1
            yield np.frombuffer(pixels, np.uint8).reshape(height, width)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for ffmpeg; where frames are left over it ends because nobody reads them."""
        self._pipe.close()
        with self._waiting, self._thread:
            self._finished = self._running.result()

    @property
    def num_frames(self) -> int:
        """Frames handed out."""
        return self._num_frames

    @property
    def finished(self) -> Finished:
        """How ffmpeg ended; known behind the `with` block."""
        assert self._finished is not None
        return self._finished


class _Stopwatch:
    """Runs inside its `with` block and stands still outside; read from another thread."""

    def __init__(self) -> None:
        self._total, self._since = 0.0, None
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._since: float | None = time.monotonic()

    def __exit__(self, *_: object) -> None:
        total = self.seconds()
        with self._lock:
            self._total, self._since = total, None

    def seconds(self) -> float:
        """Seconds that it ran."""
        with self._lock:
            return self._total + (time.monotonic() - self._since if self._since is not None else 0.0)
