"""One video file to JPEG frames, or to the reason why not."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction

from data_process import ffmpeg
from data_process.ffmpeg import Finished, StreamFacts
from data_process.records import RecordHeader, describe_units
from data_process.source import SourceVideo

_MAX_PIXELS = 8192 * 8192
_MAX_BYTES = 1 << 30
_ATTEMPTS = 3
_COMPLETE, _USABLE = 0.9, 0.5
TRANSIENT = frozenset({"timeout", "decoder_crash", "read_error"})
"""Codes that depend on the machine's state: tried again with a doubled limit, and by `--retry-quarantined`."""


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


@dataclass(frozen=True)
class Stored:
    """A video ready to be written."""

    header: RecordHeader
    units: list[bytes]
    note: str = ""


@dataclass(frozen=True)
class Quarantined:
    """A video that is left out, and why.

    Attributes:
        code: reason, one word.
        detail: what was seen, for a person.
        status: exit status of ffmpeg, negative for a signal.
        frames: JPEGs received.
        attempts: how often it was tried.
        seconds: time spent.
    """

    code: str
    detail: str
    status: int | None = None
    frames: int = 0
    attempts: int = 1
    seconds: float = 0.0
    facts: dict[str, object] = field(default_factory=dict)


def transcode(video: SourceVideo, label: int, config: TranscodeConfig) -> Stored | Quarantined:
    """Frames of a video and their header; a file that gives none ends quarantined, never as an exception."""
    start = time.monotonic()
    outcome: Stored | Quarantined = Quarantined("unreadable", "not tried")
    for attempt in range(_ATTEMPTS):
        outcome = _attempt(video, label, config, limit_factor=2**attempt)
        if isinstance(outcome, Stored) or outcome.code not in TRANSIENT:
            break
    if isinstance(outcome, Quarantined):
        given = {name: getattr(outcome, name) for name in ("code", "detail", "status", "frames", "facts")}
        return Quarantined(**given, attempts=attempt + 1, seconds=time.monotonic() - start)
    return outcome


def _attempt(video: SourceVideo, label: int, config: TranscodeConfig, *, limit_factor: int) -> Stored | Quarantined:
    try:
        num_bytes = video.path.stat().st_size
    except OSError as error:
        return Quarantined("read_error", str(error))
    if num_bytes == 0:
        return Quarantined("empty_file", "the file has no bytes")
    facts = ffmpeg.probe(video.path)
    if not isinstance(facts, StreamFacts):
        return _no_stream(facts)
    if not 0 < facts.width * facts.height <= _MAX_PIXELS:
        return Quarantined("bad_size", f"the header claims {facts.width} x {facts.height} pixels")
    size = _stored_size(facts, config.short_side)
    limit_s = limit_factor * max(60.0, 10.0 * (facts.duration or 0.0))
    keep_every = _keep_every(facts.rate, config) if facts.rate else 1
    finished = _run(video, config, size, keep_every, limit_s)
    if not facts.rate and finished.status == 0:
        facts = replace(facts, rate=_measured_rate(finished))
        keep_every = _keep_every(facts.rate or Fraction(0), config)
        if keep_every > 1:
            finished = _run(video, config, size, keep_every, limit_s)
    if finished.status is None:
        return Quarantined("timeout", f"no end after {limit_s:.0f} s", facts=_described(facts))
    return _judge(video, label, config, facts, finished, keep_every=keep_every, size=size, num_bytes=num_bytes)


def _keep_every(rate: Fraction, config: TranscodeConfig) -> int:
    return max(1, math.floor(rate / Fraction(config.nominal_fps) + Fraction(1, 2)))


def _run(
    video: SourceVideo, config: TranscodeConfig, size: tuple[int, int], keep_every: int, limit_s: float
) -> Finished:
    command = ffmpeg.jpeg_command(
        video.path, size=size, keep_every=keep_every, quality=config.quality, max_bytes=_MAX_BYTES
    )
    return ffmpeg.run(command, limit_s=limit_s)


def _measured_rate(finished: Finished) -> Fraction | None:
    """Frames per second of what came out, for files whose header tells no average rate."""
    frames = finished.output.count(b"\xff\xd8\xff")
    if not finished.seconds or not frames:
        return None
    return Fraction(frames / finished.seconds).limit_denominator(1000)


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

    def quarantine(code: str, detail: str) -> Quarantined:
        return Quarantined(code, detail, finished.status, len(units), facts=_described(facts))

    if finished.status is not None and finished.status < 0:
        return quarantine("decoder_crash", f"ffmpeg ended by signal {-finished.status}")
    if not units:
        return quarantine("unreadable", problem or _tail(finished.messages) or "no frame came out")
    if len(units) < config.min_frames:
        return quarantine("too_short", f"{len(units)} frames, {config.min_frames} are needed")
    if len(finished.output) >= _MAX_BYTES:
        return quarantine("too_long", f"more than {_MAX_BYTES >> 20} MiB of frames; cut the video into parts")
    note = _complaint(finished)
    covered = _covered(facts, finished, len(units) * keep_every)
    if covered < _COMPLETE:
        note = f"short: frames cover {covered:.0%} of the announced time"
    if covered < _USABLE:
        return quarantine("truncated", f"{len(units)} frames cover {covered:.0%} of the announced time")
    if note and config.strict:
        return quarantine("degraded", note)
    sizes, crcs = describe_units(units)
    rate = (facts.rate or facts.nominal_rate) / keep_every
    header = RecordHeader(
        id=video.id,
        label=label,
        split=video.split,
        codec="jpeg",
        width=size[1],
        height=size[0],
        fps=(rate.numerator, rate.denominator),
        unit_sizes=sizes,
        unit_crcs=crcs,
        source=_described(facts) | {"bytes": num_bytes},
        state="degraded" if note else "ok",
    )
    return Stored(header, units, note)


def _covered(facts: StreamFacts, finished: Finished, frames: int) -> float:
    """Share of the announced duration that the frames cover, by their times or their count; 1 where it is unknown.

    Times alone mislead where they are damaged, the count alone where the rate varies: the larger of the two counts.
    """
    if not facts.duration:
        return 1.0
    by_count = frames / (facts.duration * float(facts.rate)) if facts.rate else 0.0
    return max((finished.seconds or 0.0) / facts.duration, by_count)


def _complaint(finished: Finished) -> str:
    if finished.status:
        return f"ffmpeg ended with status {finished.status}: {_tail(finished.messages)}"
    if finished.messages:
        return f"{len(finished.messages)} complaints of the decoder, the last: {_tail(finished.messages[-1:])}"
    return ""


def _described(facts: StreamFacts) -> dict[str, object]:
    return {
        "codec": facts.codec,
        "w": facts.width,
        "h": facts.height,
        "fps": [facts.rate.numerator, facts.rate.denominator] if facts.rate else None,
        "duration": facts.duration,
        "rot": round(facts.rotation),
        "sar": [facts.aspect.numerator, facts.aspect.denominator],
        "vfr": facts.is_variable,
    }


def _tail(messages: tuple[str, ...] | list[str]) -> str:
    return " | ".join(messages)[-400:]


def _stored_size(facts: StreamFacts, short_side: int) -> tuple[int, int]:
    height, width = facts.display_size()
    scale = Fraction(min(short_side, height, width), min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def split_jpegs(stream: bytes) -> Iterator[bytes]:
    """Cut concatenated JPEGs apart.

    Marker segments before the scan are skipped by their length; the scan itself escapes ff, so that the next end
    marker is the frame's own.

    Raises:
        ValueError: for anything but a start marker between frames, or a last frame without its end.
    """
    start = 0
    while start < len(stream):
        if stream[start : start + 2] != b"\xff\xd8":
            raise ValueError(f"byte {start} of the frames is not the beginning of a JPEG")
        position = start + 2
        while stream[position : position + 2] not in (b"\xff\xda", b""):
            if stream[position] != 0xFF:
                raise ValueError(f"byte {position} of the frames is no marker")
            position += 2 + int.from_bytes(stream[position + 2 : position + 4], "big")
        end = stream.find(b"\xff\xd9", position)
        if end < 0:
            raise ValueError("the last frame has no end: ffmpeg was cut off")
        yield stream[start : end + 2]
        start = end + 2


def settings_of(config: TranscodeConfig) -> dict[str, object]:
    """The settings as plain values, for the plan."""
    return asdict(config)
