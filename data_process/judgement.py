"""Whether what ffmpeg made of a video is stored, and with which remarks, or why not."""

from __future__ import annotations

from dataclasses import dataclass

from data_process.encoders import Encoded
from data_process.ffmpeg import Picture
from data_process.killable import Finished
from data_process.outcome import Quarantined, Stored
from data_process.probe import StreamFacts
from data_process.records import RecordHeader, describe_units
from data_process.source import SourceVideo
from data_process.source_file import is_encrypted, read_problem
from data_process.timing import Timing
from data_process.transcode_config import TranscodeConfig

_COMPLETE, _USABLE = 0.9, 0.5
_FLAT_BYTES_PER_PIXEL = 0.02
_SMALL_SIDE = 64
_TAIL_LENGTH = 400


@dataclass(frozen=True)
class Trial:
    """One way of a video through ffmpeg.

    Attributes:
        facts: what its header claims.
        picture: what was asked for.
        encoded: what came out.
        timing: of the frames that came out.
    """

    facts: StreamFacts
    picture: Picture
    encoded: Encoded
    timing: Timing

    @property
    def num_expected(self) -> int | None:
        """Frames that the header announces; None where it does not tell."""
        if not self.facts.duration or not self.facts.rate:
            return None
        return round(self.facts.duration * float(self.facts.rate) / self.picture.keep_every)

    @property
    def covered(self) -> float:
        """Share of the announced duration that the frames cover, by their times or their count; 1 where it is unknown.

        Times alone mislead where they are damaged, the count alone where the rate varies: the larger of the two counts.
        """
        if not self.facts.duration:
            return 1.0
        frames = self.encoded.num_decoded * self.picture.keep_every
        by_count = frames / (self.facts.duration * float(self.facts.rate)) if self.facts.rate else 0.0
        return max(self.timing.end / self.facts.duration, by_count)

    def refused(self, code: str, detail: str) -> Quarantined:
        """The video left out for a reason."""
        return Quarantined(
            code,
            detail,
            status=self.encoded.finished.status,
            frames=self.encoded.num_decoded,
            expected=self.num_expected,
            facts=self.facts.described(),
        )


def judge_probe(video: SourceVideo, finished: Finished) -> Quarantined:
    """Why no video stream was found."""
    if finished.status is None:
        return Quarantined("timeout", "the header could not be read in time")
    if finished.status < 0:
        return Quarantined("decoder_crash", f"ffmpeg ended by signal {-finished.status}", status=finished.status)
    if problem := read_problem(video.path):
        return Quarantined("read_error", problem, status=finished.status)
    streams = [message for message in finished.messages if message.startswith("Stream #")]
    if streams:
        code = "unreadable" if any(" Video: " in stream for stream in streams) else "no_video_stream"
        return Quarantined(code, f"streams of the file: {_tail(streams)}", status=finished.status)
    return Quarantined("unreadable", _tail(finished.messages), status=finished.status)


def judge(
    video: SourceVideo, label: int, config: TranscodeConfig, trial: Trial, *, num_bytes: int
) -> Stored | Quarantined:
    """What becomes of a video that ffmpeg decoded, or failed to."""
    finished = trial.encoded.finished
    if finished.status is None:
        return trial.refused("timeout", f"no end after {trial.picture.limit_s:.0f} s")
    if finished.status < 0:
        return trial.refused("decoder_crash", f"ffmpeg ended by signal {-finished.status}")
    reason = _reason_to_refuse(trial, config.min_frames)
    complaint = _complaint(finished, trial.covered)
    if not reason and complaint and config.strict:
        reason = "degraded", complaint
    if reason or complaint:
        # Not asked of every video: both read files once more.
        if problem := read_problem(video.path):
            reason = "read_error", problem
        elif is_encrypted(video.path):
            reason = "encrypted", "the video needs a key"
    if reason:
        return trial.refused(*reason)
    header = _header(video, label, config, trial, num_bytes=num_bytes, is_degraded=bool(complaint))
    remarks = {"degraded": complaint} if complaint else {}
    return Stored(header, trial.encoded.units, remarks | _remarks(header))


def _header(
    video: SourceVideo, label: int, config: TranscodeConfig, trial: Trial, *, num_bytes: int, is_degraded: bool
) -> RecordHeader:
    encoded, timing = trial.encoded, trial.timing
    height, width = trial.picture.size
    sizes, crcs = describe_units(encoded.units)
    return RecordHeader(
        id=video.id,
        label=label,
        split=video.split,
        codec=config.codec,
        width=width,
        height=height,
        fps=(timing.rate.numerator, timing.rate.denominator),
        num_frames=encoded.num_frames,
        unit_sizes=sizes,
        unit_crcs=crcs,
        source=trial.facts.described() | {"bytes": num_bytes, "vfr": timing.is_variable},
        state="degraded" if is_degraded else "ok",
        extra=encoded.extra,
    )


def _reason_to_refuse(trial: Trial, min_frames: int) -> tuple[str, str] | None:
    encoded, frames = trial.encoded, trial.encoded.num_decoded
    # Flow needs one frame more than it gives.
    least = max(min_frames, frames - encoded.num_frames + 1)
    if sum(map(len, encoded.units)) >= trial.picture.max_bytes:
        return "too_long", f"more than {trial.picture.max_bytes >> 20} MiB of frames; cut the video into parts"
    if not frames:
        return "unreadable", encoded.problem or _tail(encoded.finished.messages) or "no frame came out"
    if trial.covered < _USABLE:
        return "truncated", f"{frames} frames cover {trial.covered:.0%} of the announced time"
    if frames < least:
        return "too_short", f"{frames} frames, {least} are needed"
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
