"""One video file to what is stored of it, or to the reason why not."""

from __future__ import annotations

import math
import stat
import time
from dataclasses import replace
from fractions import Fraction

from data_process.encoders import ENCODERS, Encoded
from data_process.ffmpeg import Picture
from data_process.judgement import Trial, judge, judge_probe
from data_process.killable import Finished
from data_process.optical_flow import SMALLEST_SIDE
from data_process.outcome import TRANSIENT, Quarantined, Stored
from data_process.probe import StreamFacts, probe
from data_process.source import SourceVideo
from data_process.timing import Timing, measure_timing
from data_process.transcode_config import TranscodeConfig

_MAX_BYTES = 1 << 30  # of the units of one video; LMDB's values end at twice that
_MAX_PIXELS = 8192 * 8192
_MAX_SIDE = 16384
_ATTEMPTS = 3


def transcode(video: SourceVideo, label: int, config: TranscodeConfig) -> Stored | Quarantined:
    """Frames of a video and their header; a file that gives none ends quarantined, never as an exception."""
    start = time.monotonic()
    outcome: Stored | Quarantined = Quarantined("unreadable", "not tried")
    for attempt in range(_ATTEMPTS):
        outcome = _attempt(video, label, config, limit_factor=2**attempt)
        if isinstance(outcome, Stored) or outcome.code not in TRANSIENT:
            break
    if isinstance(outcome, Quarantined):
        return replace(outcome, attempts=attempt + 1, seconds=time.monotonic() - start)
    return outcome


def _attempt(video: SourceVideo, label: int, config: TranscodeConfig, *, limit_factor: int) -> Stored | Quarantined:
    try:
        status = video.path.stat()
    except OSError as error:
        return Quarantined("read_error", str(error))
    num_bytes = status.st_size
    if num_bytes == 0 and stat.S_ISREG(status.st_mode):
        return Quarantined("empty_file", "the file has no bytes")
    facts = probe(video.path, limit_factor=limit_factor)
    if isinstance(facts, Finished):
        return judge_probe(video, facts)
    if not 0 < facts.width * facts.height <= _MAX_PIXELS:
        return Quarantined("bad_size", f"the header claims {facts.width} x {facts.height} pixels")
    picture = picture_of(facts, config, limit_factor=limit_factor)
    height, width = picture.size
    if max(picture.size) > _MAX_SIDE:
        return Quarantined("bad_size", f"its pixel aspect {facts.aspect} makes it {width} x {height} pixels")
    if config.codec == "flow-jpeg" and min(picture.size) < SMALLEST_SIDE[config.flow.algorithm]:
        return Quarantined("bad_size", f"{width} x {height} pixels are too few for {config.flow.algorithm} flow")
    encoded, timing = _encode(video, facts, config, picture)
    needed = _keep_every(timing.rate * picture.keep_every, config)
    if encoded.finished.status == 0 and needed != picture.keep_every:
        # The header was wrong about the rate.
        picture = replace(picture, keep_every=needed)
        encoded, timing = _encode(video, facts, config, picture)
    return judge(video, label, config, Trial(facts, picture, encoded, timing), num_bytes=num_bytes)


def picture_of(facts: StreamFacts, config: TranscodeConfig, *, limit_factor: int = 1) -> Picture:
    """What is made of a video, going by its header."""
    size = facts.stored_size(config.short_side)
    if ENCODERS[config.codec].even:
        size = max(2, size[0] // 2 * 2), max(2, size[1] // 2 * 2)
    limit_s = limit_factor * max(60.0, 10.0 * (facts.duration or 0.0))
    return Picture(size, _keep_every(facts.rate or Fraction(0), config), limit_s, _MAX_BYTES)


def _keep_every(rate: Fraction, config: TranscodeConfig) -> int:
    return max(1, math.floor(rate / Fraction(config.nominal_fps) + Fraction(1, 2)))


def _encode(
    video: SourceVideo, facts: StreamFacts, config: TranscodeConfig, picture: Picture
) -> tuple[Encoded, Timing]:
    rate = facts.rate / picture.keep_every if facts.rate else None
    settings = {"quality": config.quality, "algorithm": config.flow.algorithm, "bound": config.flow.bound}
    encoded = ENCODERS[config.codec].encode(video.path, picture, rate, settings)
    return encoded, measure_timing(encoded.finished.times, rate)
