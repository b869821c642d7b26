"""How one video file ended: stored, perhaps with remarks, or left out; either way with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from data_process import ffmpeg
from data_process.records import RecordHeader
from data_process.source import SourceVideo
from data_process.source_file import describe_file

TRANSIENT = frozenset({"timeout", "decoder_crash", "read_error"})
"""Codes that depend on the machine's state: tried again with a doubled limit, and by `--retry-quarantined`."""


@dataclass(frozen=True)
class Stored:
    """A video ready to be written.

    Attributes:
        header: as it will stand in the shard.
        units: as a record stores them.
        remarks: what a person should know of it, code to detail: ``degraded`` (the decoder complained or frames are
            missing), ``flat`` (hardly anything in the pictures), ``small``.
    """

    header: RecordHeader
    units: list[bytes]
    remarks: dict[str, str] = field(default_factory=dict)

    def report_rows(self, video: SourceVideo) -> list[dict[str, Any]]:
        """One row of the shard's report for each remark."""
        measured = {"frames": self.header.num_frames, "source": dict(self.header.source), "ffmpeg": ffmpeg.version()}
        return [
            {"id": video.id, "path": str(video.path), "stored": True, "code": code, "detail": detail, **measured}
            for code, detail in self.remarks.items()
        ]


@dataclass(frozen=True)
class Quarantined:
    """A video that is left out, and why.

    Attributes:
        code: reason, one word.
        detail: what was seen, for a person.
        status: exit status of ffmpeg, negative for a signal.
        frames: received.
        expected: frames that the header of the file announces, None where it does not tell.
        attempts: how often it was tried.
        seconds: time spent.
        facts: what the header of the file claims.
    """

    code: str
    detail: str
    status: int | None = None
    frames: int = 0
    expected: int | None = None
    attempts: int = 1
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def report_rows(self, video: SourceVideo) -> list[dict[str, Any]]:
        """One row of the shard's report, with what is needed to look for the cause."""
        row = {
            "id": video.id,
            "path": str(video.path),
            "stored": False,
            "code": self.code,
            "detail": self.detail,
            "frames": self.frames,
            "expected": self.expected,
            "source": self.facts,
            "ffmpeg": ffmpeg.version(),
            **describe_file(video.path),
            "status": self.status,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
        }
        return [row]
