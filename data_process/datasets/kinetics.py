"""Kinetics-400, 600 or 700 with its official CSV files (or JSON), in whatever layout it was downloaded."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_process.datasets._annotated import join
from data_process.datasets._files import VideoFiles
from data_process.datasets._listed import ListedVideo
from data_process.errors import InputError
from data_process.source import SourceListing, SourceRequest

_SPLITS = {
    "train": "train", "training": "train", "val": "val", "validate": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_TIMED = re.compile(r"(.+)_(\d{6})_(\d{6})")
"""Names that downloaders give: the id, and the first and last second with six digits."""


def read(request: SourceRequest) -> SourceListing:
    """Listed clips that are below a folder; files are joined by the video's id, and its times where a name has them.

    Files may be called ``ID_000010_000020.mp4`` or ``ID.mp4`` (.mkv, .webm, .mp4.webm), in class folders or not, with
    blanks or underscores, below folders of splits or not. The id of a clip is ``ID_000010_000020``, its class the label
    of the file. Clips that are missing are listed.

    Raises:
        InputError: where no annotation file is given or found, or one is none.
    """
    paths = _annotation_files(request)
    rows = [row for split, path in paths for row in _rows(path, split)]
    files = VideoFiles(request.root, exact=True)
    by_id = _files_by_id(files)
    listed = [_listed(row, by_id) for row in rows]
    listing = join(request, listed, files=files, unique_names=True)
    strangers = len(files) - len({video.path for video in listing.videos})
    if not strangers:
        return listing
    told = f"{strangers} files below {request.root} are left out: they are not listed, or copies of other files"
    return replace(listing, warnings=[told, *listing.warnings])


def _listed(row: dict[str, Any], by_id: dict[str, list[tuple[str, tuple[int, int] | None]]]) -> ListedVideo:
    times = (row["start"], row["end"])
    known = by_id.get(row["id"], [])
    exact = [stem for stem, own in known if own == times]
    plain = [stem for stem, own in known if own is None]
    clip = f"{row['id']}_{times[0]:06d}_{times[1]:06d}" if None not in times else row["id"]
    stem = (exact or plain or [clip])[0]
    return ListedVideo(f"{row['split']}/{stem}", row["split"], row["label"], id=clip)


def _files_by_id(files: VideoFiles) -> dict[str, list[tuple[str, tuple[int, int] | None]]]:
    """Id to names (without endings) and times of its files."""
    found: dict[str, list[tuple[str, tuple[int, int] | None]]] = {}
    for stem, _ in files.stems():
        match = _TIMED.fullmatch(stem)
        one, times = (match[1], (int(match[2]), int(match[3]))) if match else (stem, None)
        found.setdefault(one, []).append((stem, times))
    return found


def _annotation_files(request: SourceRequest) -> list[tuple[str | None, Path]]:
    given = list(request.annotations)
    places = given or [(None, request.root), (None, request.root / "annotations"), (None, request.root.parent)]
    found = []
    for split, place in places:
        if place.is_dir():
            found += [(split, path) for path in sorted(place.iterdir()) if path.suffix in (".csv", ".json")]
        elif place.is_file():
            found.append((split, place))
        elif given:
            raise InputError(
                f"--annotations {place} does not exist; expected a CSV or JSON file of Kinetics, or a folder"
            )
        if found and not given:
            break
    if not found:
        raise InputError(
            f"no annotations (.csv, .json) in {', '.join(str(place) for _, place in places)}; give the official files "
            "as --annotations"
        )
    return found


def _rows(path: Path, split: str | None) -> Iterator[dict[str, Any]]:
    try:
        if path.suffix == ".json":
            yield from _json_rows(path, split)
        else:
            yield from _csv_rows(path, split)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no annotation file of Kinetics ({type(error).__name__}: {error}); expected columns "
            "label, youtube_id, time_start, time_end, split, or the JSON of the same"
        ) from None


def _csv_rows(path: Path, split: str | None) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            if None in (row["youtube_id"], row["time_start"], row["time_end"]):
                raise ValueError(f"row {number} has too few columns")
            yield {
                "id": row["youtube_id"].strip(),
                "label": (row.get("label") or "").strip() or None,
                "start": int(float(row["time_start"])),
                "end": int(float(row["time_end"])),
                "split": split or _SPLITS[(row.get("split") or path.stem).strip().lower()],
            }


def _json_rows(path: Path, split: str | None) -> Iterator[dict[str, Any]]:
    videos = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(videos, dict) or not all(isinstance(facts, dict) for facts in videos.values()):
        raise ValueError("not an object of videos by their ids")
    for one, facts in videos.items():
        annotation = facts.get("annotations", {})
        start, end = annotation.get("segment", (0, 0))
        yield {
            "id": one,
            "label": annotation.get("label"),
            "start": int(start),
            "end": int(end),
            "split": split or _SPLITS[facts["subset"].lower()],
        }
