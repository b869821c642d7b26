"""A share of each class of a labelled dataset, the same wherever it is drawn: for few labels, and for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from data_process.chosen_videos import ChosenVideos
from data_process.errors import InputError
from data_process.source import first_ten
from data_process.video_set import VideoSet


def labelled_share(videos: VideoSet, share: float, *, seed: int) -> VideoSet:
    """Videos whose labels are used, where only a share of them is: of every class the rounded share, at least one.

    A larger share of the same seed holds all videos of a smaller one.

    Args:
        videos: all of them labelled.
        share: in (0, 1].
        seed: of the choice, which depends on the ids alone and not on their order.

    Raises:
        InputError: for a video without label.
    """
    chosen = {one for ids in _orders(videos, seed, "labelled") for one in ids[: _count(share, len(ids))]}
    return ChosenVideos(videos, list(chosen))


def hold_out(videos: VideoSet, share: float, *, seed: int) -> tuple[VideoSet, VideoSet]:
    """The videos without a share of every class, and that share, at least one of each.

    Raises:
        InputError: for a video without label, or a class that would have none left to be trained on.
    """
    held: set[str] = set()
    for ids in _orders(videos, seed, "held out"):
        held |= set(ids[: _count(share, len(ids))])
    kept = [one for one in videos.ids() if one not in held]
    left = ChosenVideos(videos, kept) if kept else None
    classes = {int(label) for label in videos.labels}
    lost = sorted(classes - ({int(label) for label in left.labels} if left else set()))
    if lost or left is None:
        raise InputError(
            f"{len(lost)} classes of {videos.name} have too few labelled videos ({len(videos)} of {len(classes)} "
            f"classes in all) to hold {share:g} of them out and keep one: "
            f"{first_ten([videos.classes[label] for label in lost])}. Raise data.label_fraction, lower data.held_out, "
            "or train without validation (data.held_out 0, validate.source none)"
        )
    return left, ChosenVideos(videos, list(held))


def _count(share: float, total: int) -> int:
    return max(1, int(share * total + 0.5))


def _orders(videos: VideoSet, seed: int, purpose: str) -> Sequence[Sequence[str]]:
    """The ids of every class that has any, each in an order that follows from seed, purpose and id."""
    of_class: dict[int, list[str]] = {}
    for one, label in zip(videos.ids(), videos.labels.tolist(), strict=True):
        of_class.setdefault(label, []).append(one)
    if bare := of_class.get(-1):
        raise InputError(
            f"{len(bare)} videos of {videos.name}, split {videos.split or 'all'}, have no class: {first_ten(bare)}; a "
            "share of each class (data.label_fraction, data.held_out) needs one. Leave them out by data.subset"
        )

    def place(one: str) -> bytes:
        return hashlib.blake2b(f"{purpose}\0{seed}\0{one}".encode(), digest_size=16).digest()

    return [sorted(ids, key=place) for _, ids in sorted(of_class.items())]
