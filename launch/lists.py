"""Refusals of lists of videos that would make a measure worthless: empty ones, and those that share videos."""

from __future__ import annotations

from data_process.errors import InputError
from data_process.video_set import VideoSet

_NAMED = 3


def refuse_empty(videos: VideoSet) -> None:
    """Refuse a split of no video.

    Raises:
        InputError: where it is one.
    """
    if not len(videos):
        raise InputError(
            f"{videos.name}, split {videos.split or 'all'} holds 0 videos, so there is nothing to measure; build it "
            "again, or name another split with --eval.query or --eval.gallery"
        )


def refuse_overlap(judged: VideoSet, known: VideoSet, known_as: str) -> None:
    """Refuse to judge by videos that were learned from or are searched.

    Args:
        judged: what accuracies are counted on.
        known: what they must not be a part of.
        known_as: its name in the message, such as ``training list``.

    Raises:
        InputError: with how many there are, and the first of them.
    """
    shared = sorted(set(judged.ids()) & set(known.ids()))
    if shared:
        more = ", ..." if len(shared) > _NAMED else ""
        raise InputError(
            f"{len(shared)} of the {len(judged)} videos of split {judged.split or 'all'} are in the {known_as} (split "
            f"{known.split or 'all'} of {known.name}) too: {', '.join(shared[:_NAMED])}{more}; accuracies on them say "
            "nothing. Judge another split, with --eval.query"
        )
