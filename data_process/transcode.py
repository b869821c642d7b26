"""One video file to JPEG frames, or to the reason why not."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from fractions import Fraction

from data_process import ffmpeg
from data_process.errors import InputError
from data_process.ffmpeg import Finished
from data_process.jpeg_stream import split_jpegs
from data_process.outcome import TRANSIENT, Quarantined, Stored
from data_process.probe import StreamFacts, probe
from data_process.records import RecordHeader, describe_units
from data_process.source import SourceVideo
from data_process.timing import Timing, measure_timing

_MAX_PIXELS = 8192 * 8192
_MAX_SIDE = 16384
_MAX_BYTES = 1 << 30
_ATTEMPTS = 3
_COMPLETE, _USABLE = 0.9, 0.5
_FLAT_BYTES_PER_PIXEL = 0.02
_SMALL_SIDE = 64
_TAIL_LENGTH = 400


@dataclass(frozen=True)
class TranscodeConfig:
    """What decides the stored bytes, beside the videos and the ffmpeg build.

    Attributes:
        short_side: pixels; larger videos are scaled down to it, smaller ones keep their size.
        quality: JPEG scale of ffmpeg, 2 (best) to 31.
        nominal_fps: of videos at about twice, three times, ... this rate every second, third, ... frame is kept.
        min_frames: videos with fewer stored frames are quarantined.
        strict: quarantine degraded videos, too.
    """

    short_side: int = 256
    quality: int = 3
    nominal_fps: float = 30.0
    min_frames: int = 16
    strict: bool = False

    def __post_init__(self) -> None:
        if self.short_side < 1 or self.min_frames < 1:
            raise InputError(f"short side {self.short_side}, min frames {self.min_frames}: both must be at least 1")
        if not 1 <= self.quality <= 31:
            raise InputError(f"quality {self.quality}: ffmpeg's JPEG scale runs from 1 (best) to 31")
        if not self.nominal_fps > 0:
            raise InputError(f"nominal fps {self.nominal_fps}: expected a rate above 0")


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
        num_bytes = video.path.stat().st_size
    except OSError as error:
        return Quarantined("read_error", str(error))
    if num_bytes == 0:
        return Quarantined("empty_file", "the file has no bytes")
    facts = probe(video.path)
    if not isinstance(facts, StreamFacts):
        return _no_stream(facts)
    if not 0 < facts.width * facts.height <= _MAX_PIXELS:
        return Quarantined("bad_size", f"the header claims {facts.width} x {facts.height} pixels")
    size = facts.stored_size(config.short_side)
    if max(size) > _MAX_SIDE:
        return Quarantined("bad_size", f"its pixel aspect {facts.aspect} makes it {size[1]} x {size[0]} pixels")
    limit_s = limit_factor * max(60.0, 10.0 * (facts.duration or 0.0))
    keep_every = _keep_every(facts.rate or Fraction(0), config)
    finished, timing = _decode(video, facts, config, size, keep_every, limit_s)
    if finished.status == 0 and (needed := _keep_every(timing.rate * keep_every, config)) != keep_every:
        # The header was wrong about the rate.
        keep_every = needed
        finished, timing = _decode(video, facts, config, size, keep_every, limit_s)
    if finished.status is None:
        return Quarantined("timeout", f"no end after {limit_s:.0f} s", facts=facts.described())
    return _judge(video, label, config, facts, finished, timing, keep_every=keep_every, size=size, num_bytes=num_bytes)


def _keep_every(rate: Fraction, config: TranscodeConfig) -> int:
    return max(1, math.floor(rate / Fraction(config.nominal_fps) + Fraction(1, 2)))


def _decode(
    video: SourceVideo,
    facts: StreamFacts,
    config: TranscodeConfig,
    size: tuple[int, int],
    keep_every: int,
    limit_s: float,
) -> tuple[Finished, Timing]:
    finished = ffmpeg.decode(
        video.path, size=size, keep_every=keep_every, quality=config.quality, max_bytes=_MAX_BYTES, limit_s=limit_s
    )
    return finished, measure_timing(finished.times, facts.rate / keep_every if facts.rate else None)


def _no_stream(messages: tuple[str, ...]) -> Quarantined:
    text = " ".join(messages)
    if "no answer within" in text:
        return Quarantined("timeout", text)
    if "Stream #" in text:
        code = "unreadable" if " Video: " in text else "no_video_stream"
        kinds = [message for message in messages if message.startswith("Stream #")]
        return Quarantined(code, f"streams of the file: {_tail(kinds)}")
    return Quarantined("unreadable", _tail(messages))


def _judge(
    video: SourceVideo,
    label: int,
    config: TranscodeConfig,
    facts: StreamFacts,
    finished: Finished,
    timing: Timing,
    *,
    keep_every: int,
    size: tuple[int, int],
    num_bytes: int,
) -> Stored | Quarantined:
    try:
        units = list(split_jpegs(finished.output))
        problem = ""
    except ValueError as error:
        units, problem = [], str(error)
    covered = _covered(facts, timing, len(units) * keep_every)
    reason = _reason_to_refuse(finished, len(units), covered, problem, config.min_frames)
    complaint = _complaint(finished, covered)
    if not reason and complaint and config.strict:
        reason = "degraded", complaint
    if reason:
        return Quarantined(*reason, status=finished.status, frames=len(units), facts=facts.described())
    sizes, crcs = describe_units(units)
    header = RecordHeader(
        id=video.id,
        label=label,
        split=video.split,
        codec="jpeg",
        width=size[1],
        height=size[0],
        fps=(timing.rate.numerator, timing.rate.denominator),
        num_frames=len(units),
        unit_sizes=sizes,
        unit_crcs=crcs,
        source=facts.described() | {"bytes": num_bytes, "vfr": timing.is_variable},
        state="degraded" if complaint else "ok",
    )
    return Stored(header, units, ({"degraded": complaint} if complaint else {}) | _remarks(header))


def _reason_to_refuse(
    finished: Finished, frames: int, covered: float, problem: str, min_frames: int
) -> tuple[str, str] | None:
    if finished.status is not None and finished.status < 0:
        return "decoder_crash", f"ffmpeg ended by signal {-finished.status}"
    if not frames:
        return "unreadable", problem or _tail(finished.messages) or "no frame came out"
    if len(finished.output) >= _MAX_BYTES:
        return "too_long", f"more than {_MAX_BYTES >> 20} MiB of frames; cut the video into parts"
    if covered < _USABLE:
        return "truncated", f"{frames} frames cover {covered:.0%} of the announced time"
    if frames < min_frames:
        return "too_short", f"{frames} frames, {min_frames} are needed"
    return None


def _remarks(header: RecordHeader) -> dict[str, str]:
    remarks = {}
    per_pixel = float(header.unit_sizes.mean()) / (header.width * header.height)
    if per_pixel < _FLAT_BYTES_PER_PIXEL:
        remarks["flat"] = f"{per_pixel:.3f} bytes per pixel: the pictures hold hardly anything"
    if min(header.width, header.height) < _SMALL_SIDE:
        remarks["small"] = f"only {header.width} x {header.height} pixels"
    return remarks


def _covered(facts: StreamFacts, timing: Timing, frames: int) -> float:
    """Share of the announced duration that the frames cover, by their times or their count; 1 where it is unknown.

    Times alone mislead where they are damaged, the count alone where the rate varies: the larger of the two counts.
    """
    if not facts.duration:
        return 1.0
    by_count = frames / (facts.duration * float(facts.rate)) if facts.rate else 0.0
    return max(timing.end / facts.duration, by_count)


def _complaint(finished: Finished, covered: float) -> str:
    if finished.status:
        return f"ffmpeg ended with status {finished.status}: {_tail(finished.messages)}"
    if covered < _COMPLETE:
        return f"short: the frames cover {covered:.0%} of the announced time"
    if finished.messages:
        return f"{len(finished.messages)} complaints of the decoder, the last: {_tail(finished.messages[-1:])}"
    return ""


def _tail(messages: tuple[str, ...] | list[str]) -> str:
    """The last messages that fit a line of a report."""
    kept: list[str] = []
    for message in reversed(messages):
        if kept and sum(map(len, kept)) + len(message) > _TAIL_LENGTH:
            break
        kept.insert(0, message[-_TAIL_LENGTH:])
    return " | ".join(kept)


def settings_of(config: TranscodeConfig) -> dict[str, object]:
    """The settings as plain values, for the plan."""
    return asdict(config)
