"""Ways to lay a clip, mirrored, backwards and turned, which a network may be asked to name.

The ways are those of VTDL's release (``src/TC/basic_augmentation``): ``four_rotation_cls``, ``sample_rotation_cls`` and
the 16 of its ``temporal_consistency`` task.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

NumOrientations = Literal[1, 4, 8, 16]
"""Clips as they are; turned by quarters; all eight ways to lay a square; each of them also backwards in time."""


class Orientation(NamedTuple):
    """One way to show a clip: mirrored and reversed first, then turned.

    Attributes:
        mirrored: left and right exchanged.
        backwards: the last frame first.
        turns: quarter turns counter-clockwise, 0..3.
    """

    mirrored: bool
    backwards: bool
    turns: int


def _laid(mirrored: bool, turns: int) -> Orientation:
    return Orientation(mirrored, False, turns)


ORIENTATIONS: dict[int, tuple[Orientation, ...]] = {
    1: (_laid(False, 0),),
    4: tuple(_laid(False, turns) for turns in range(4)),
    8: (
        _laid(True, 2),  # upside down
        _laid(True, 0),
        *(_laid(False, turns) for turns in (1, 2, 3)),
        _laid(True, 3),
        _laid(True, 1),
        _laid(False, 0),
    ),
    16: tuple(
        Orientation(mirrored, backwards, turns)
        for backwards in (False, True)
        for mirrored in (False, True)
        for turns in range(4)
    ),
}
"""By their number, all different; a way's place is its label, numbered as in the release."""

LEGACY_ORIENTATIONS = {**ORIENTATIONS, 16: 4 * ORIENTATIONS[4]}
"""As coded: the turn is made of the clip as it was, so that 12 of the 16 labels name what another one names too."""
