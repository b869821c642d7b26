"""One video file to what is stored of it, or to the reason why not."""

from __future__ import annotations

import math
import stat
import time
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import get_args

from data_process.encoders import ENCODERS, Encoded, checked_quality
from data_process.errors import InputError
from data_process.ffmpeg import Finished, Picture
from data_process.optical_flow import SMALLEST_SIDE, Algorithm, opencv_version
from data_process.outcome import TRANSIENT, Quarantined, Stored
from data_process.probe import StreamFacts, is_encrypted, probe
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
class FlowConfig:
    """How optical flow is computed and stored.

    Attributes:
        algorithm: dis, dis-fast, farneback or tvl1.
        bound: displacements beyond so many pixels either way are cut.
    """

    algorithm: Algorithm = "dis"
    bound: float = 20.0

    def __post_init__(self) -> None:
        if self.algorithm not in get_args(Algorithm):
            raise InputError(f"flow {self.algorithm}: expected one of {', '.join(get_args(Algorithm))}")
        if not 0 < self.bound < math.inf:
            raise InputError(f"bound {self.bound}: expected a number of pixels above 0")


@dataclass(frozen=True)
class TranscodeConfig:
    """What decides the stored bytes, beside the videos and the ffmpeg build.

    Attributes:
        short_side: pixels; larger videos are scaled down to it, smaller ones keep their size.
        codec: jpeg, mp4 (H.264, one file a video) or flow-jpeg (optical flow).
        quality: on the codec's scale: q:v of ffmpeg's JPEGs (3), crf of x264 (21), quality of flow's JPEGs (90).
        nominal_fps: of videos at about twice, three times, ... this rate every second, third, ... frame is kept.
        min_frames: videos with fewer frames are quarantined.
        strict: quarantine degraded videos, too.
        flow: of the codec flow-jpeg.
    """

    short_side: int = 256
    codec: str = "jpeg"
    quality: int | None = None
    nominal_fps: float = 30.0
    min_frames: int = 16
    strict: bool = False
    flow: FlowConfig = field(default_factory=FlowConfig)

    def __post_init__(self) -> None:
        if self.short_side < 1 or self.min_frames < 1:
            raise InputError(f"short side {self.short_side}, min frames {self.min_frames}: both must be at least 1")
        object.__setattr__(self, "quality", checked_quality(self.codec, self.quality))
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
        status = video.path.stat()
    except OSError as error:
        return Quarantined("read_error", str(error))
    num_bytes = status.st_size
    if num_bytes == 0 and stat.S_ISREG(status.st_mode):
        return Quarantined("empty_file", "the file has no bytes")
    facts = probe(video.path)
    if not isinstance(facts, StreamFacts):
        return _no_stream(facts)
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
    if encoded.finished.status is None:
        return Quarantined("timeout", f"no end after {picture.limit_s:.0f} s", facts=facts.described())
    return _judge(video, label, config, facts, encoded, timing, picture, num_bytes=num_bytes)


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


def _no_stream(messages: tuple[str, ...]) -> Quarantined:
    text = " ".join(messages)
    if "no answer within" in text:
        return Quarantined("timeout", text)
    if "ended by signal" in text:
        return Quarantined("decoder_crash", text)
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
    encoded: Encoded,
    timing: Timing,
    picture: Picture,
    *,
    num_bytes: int,
) -> Stored | Quarantined:
    finished = encoded.finished
    covered = _covered(facts, timing, encoded.num_decoded * picture.keep_every)
    # Flow needs one frame more than it gives.
    least = max(config.min_frames, encoded.num_decoded - encoded.num_frames + 1)
    reason = _reason_to_refuse(encoded, covered, least)
    complaint = _complaint(finished, covered)
    if not reason and complaint and config.strict:
        reason = "degraded", complaint
    if (reason or complaint) and is_encrypted(video.path):
        reason = "encrypted", "the video needs a key"
    if reason:
        return Quarantined(*reason, status=finished.status, frames=encoded.num_decoded, facts=facts.described())
    sizes, crcs = describe_units(encoded.units)
    header = RecordHeader(
        id=video.id,
        label=label,
        split=video.split,
        codec=config.codec,
        width=picture.size[1],
        height=picture.size[0],
        fps=(timing.rate.numerator, timing.rate.denominator),
        num_frames=encoded.num_frames,
        unit_sizes=sizes,
        unit_crcs=crcs,
        source=facts.described() | {"bytes": num_bytes, "vfr": timing.is_variable},
        state="degraded" if complaint else "ok",
        extra=encoded.extra,
    )
    return Stored(header, encoded.units, ({"degraded": complaint} if complaint else {}) | _remarks(header))


def _reason_to_refuse(encoded: Encoded, covered: float, min_frames: int) -> tuple[str, str] | None:
    finished, frames = encoded.finished, encoded.num_decoded
    if finished.status is not None and finished.status < 0:
        return "decoder_crash", f"ffmpeg ended by signal {-finished.status}"
    if not frames:
        return "unreadable", encoded.problem or _tail(finished.messages) or "no frame came out"
    if sum(map(len, encoded.units)) >= _MAX_BYTES:
        return "too_long", f"more than {_MAX_BYTES >> 20} MiB of frames; cut the video into parts"
    if covered < _USABLE:
        return "truncated", f"{frames} frames cover {covered:.0%} of the announced time"
    if frames < min_frames:
        return "too_short", f"{frames} frames, {min_frames} are needed"
    return None


def _remarks(header: RecordHeader) -> dict[str, str]:
    remarks = {}
    per_pixel = float(header.unit_sizes.sum()) / (header.num_frames * header.width * header.height)
    # Streams and flow are small wherever little moves, which is no fault.
    if header.codec == "jpeg" and per_pixel < _FLAT_BYTES_PER_PIXEL:
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
    """What decides the stored bytes beside ffmpeg, as plain values for the plan.

    Raises:
        InputError: for flow without OpenCV.
    """
    tools: dict[str, object] = {"opencv": opencv_version()} if config.codec == "flow-jpeg" else {}
    return {**asdict(config), **tools}
