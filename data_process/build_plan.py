"""Manifest and plan of a build: decided once, the same for every task, machine and restart."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_process.durable import publish_once, write_durably
from data_process.errors import InputError
from data_process.shard_writer import list_shards
from data_process.source import SourceVideo, first_ten

PLAN_FORMAT = 1
_LARGE_SET, _SMALL_SHARD, _LARGE_SHARD = 4096, 64, 512


@dataclass(frozen=True)
class BuildPlan:
    """What goes into which shard.

    Attributes:
        videos: all videos, in the order of the shards.
        labels: class index of each, -1 where unlabelled.
        classes: class names, in the order of the labels.
        videos_per_shard: shard s holds videos s * videos_per_shard and the following.
        described: the contents of `plan.json`.
    """

    videos: tuple[SourceVideo, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    videos_per_shard: int
    described: Mapping[str, Any]

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return -(-len(self.videos) // self.videos_per_shard)

    @property
    def settings_digest(self) -> str:
        """SHA-256 of manifest, settings and tool: stands in every shard."""
        return self.described["digest"]

    def shard(self, number: int) -> range:
        """Positions in `videos` of a shard's content."""
        first = number * self.videos_per_shard
        return range(first, min(first + self.videos_per_shard, len(self.videos)))


def make_plan(
    videos: Sequence[SourceVideo],
    *,
    source: Path,
    classes: Sequence[str] | None,
    settings: Mapping[str, Any],
    tool: str,
    videos_per_shard: int | None = None,
    seed: int = 0,
) -> BuildPlan:
    """Order videos by SHA-256 of (seed, id), so that classes mix and shards are alike, and number the classes.

    Args:
        videos: all videos of the source.
        source: folder or list that paths are written relative to.
        classes: class names in the order of the labels; None takes the sorted names (or indices) that occur.
        settings: what else decides the stored bytes.
        tool: version of ffmpeg.
        videos_per_shard: None takes 64 for sets up to 4,096 videos, 512 beyond.
        seed: of the order.

    Raises:
        InputError: for a class that is not in `classes`.
    """
    names, labels = number_classes(videos, classes)
    order = sorted(range(len(videos)), key=lambda one: hashlib.sha256(f"{seed}\0{videos[one].id}".encode()).digest())
    per_shard = videos_per_shard or (_SMALL_SHARD if len(videos) <= _LARGE_SET else _LARGE_SHARD)
    manifest = hashlib.sha256(manifest_lines(videos, labels, source)).hexdigest()
    described: dict[str, Any] = {
        "format": PLAN_FORMAT,
        "manifest_sha256": manifest,
        "videos": len(videos),
        "videos_per_shard": per_shard,
        "shards": -(-len(videos) // per_shard),
        "seed": seed,
        "settings": dict(settings),
        "ffmpeg": tool,
        "classes": list(names),
    }
    described["digest"] = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return BuildPlan(
        videos=tuple(videos[one] for one in order),
        labels=tuple(labels[one] for one in order),
        classes=names,
        videos_per_shard=per_shard,
        described=described,
    )


def number_classes(
    videos: Sequence[SourceVideo], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Class names in the order of the labels, and each video's label.

    Labels may be given as names or, with a class list, as indices into it. Without a list, all-numeric labels are
    sorted by number and everything else by name.

    Raises:
        InputError: for names that the list does not hold, or holds twice.
    """
    used = {video.class_name for video in videos if video.class_name is not None}
    if classes is None:
        numeric = all(name.isdecimal() for name in used)
        names = tuple(sorted(used, key=int) if numeric else sorted(used))
    else:
        names = tuple(classes)
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InputError(f"the class list holds {first_ten(twice)} more than once; a class has one label")
    number = {str(index): index for index in range(len(names))} if classes is not None else {}
    number |= {name: index for index, name in enumerate(names)}
    unknown = sorted(used - set(number))
    if unknown:
        raise InputError(
            f"{len(unknown)} classes are not in the class list ({', '.join(names[:5])}, ...): {first_ten(unknown)}; "
            "correct the names or give another --classes file"
        )
    return names, tuple(-1 if video.class_name is None else number[video.class_name] for video in videos)


def manifest_lines(videos: Sequence[SourceVideo], labels: Sequence[int], source: Path) -> bytes:
    """The manifest, one JSON object a video, sorted by id; paths relative to the source where they lie below it."""
    root = source if source.is_dir() else source.parent
    lines = []
    for video, label in zip(videos, labels, strict=True):
        path = video.path.relative_to(root) if video.path.is_relative_to(root) else video.path
        row = {"id": video.id, "path": str(path), "class": video.class_name, "label": label, "split": video.split}
        lines.append(json.dumps(row, sort_keys=True, ensure_ascii=False))
    return ("\n".join(lines) + "\n").encode(errors="surrogateescape")


def make_folder(out: Path) -> None:
    """Make the output folder.

    Raises:
        InputError: where it cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(f"no permission to write to {out}")
    except OSError as error:
        raise InputError(f"{out} cannot be written to ({error}); give another output folder") from None


def agree_on_plan(out: Path, plan: BuildPlan, manifest: bytes) -> None:
    """Write plan and manifest, or compare with those that an earlier start or another task has written.

    Of tasks that begin at once with different plans one is the first, and the others stop.

    Raises:
        InputError: where the folder belongs to another build, naming what differs.
    """
    path = out / "plan.json"
    if not path.exists():
        foreign = [*(shard.name for shard in list_shards(out).values()), *(one.name for one in out.glob("index.*"))]
        # Looked at again: another task of the same build may have started in between.
        if foreign and not path.exists():
            raise InputError(
                f"{out} holds another dataset without plan.json ({first_ten(sorted(foreign))}); give another folder"
            )
        publish_once(path, json.dumps(plan.described, indent=1).encode())
    before = read_plan(out)
    differing = [name for name in plan.described if before.get(name) != plan.described[name] and name != "digest"]
    if differing:
        changes = "; ".join(_change(name, before.get(name), plan.described[name]) for name in differing)
        raise InputError(
            f"{out} belongs to a build with another plan: {changes}. Give the settings and the source of that "
            "build to go on with it, or another output folder."
        )
    strangers = [shard.name for number, shard in list_shards(out).items() if number >= plan.num_shards]
    if strangers:
        raise InputError(
            f"{out} holds shards that are not of this build ({first_ten(strangers)}); move them away, or give another "
            "output folder"
        )
    if not (out / "manifest.jsonl").exists():
        write_durably(out / "manifest.jsonl", manifest)


def read_plan(root: Path) -> dict[str, Any]:
    """Contents of `plan.json`.

    Raises:
        InputError: where it cannot be read.
    """
    try:
        return dict(json.loads((root / "plan.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{root}/plan.json cannot be read ({error}); restore it, or build into another folder"
        ) from None


def _change(name: str, before: Any, now: Any) -> str:
    if name == "manifest_sha256":
        return "the videos, their classes or splits changed"
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        return ", ".join(f"{key} was {before.get(key)}, now {now.get(key)}" for key in keys)
    if isinstance(before, list):
        return f"{name} differ"
    return f"{name} was {before}, now {now}"
