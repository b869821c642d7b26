"""Orders of frames that destroy what a clip tells of time."""

from __future__ import annotations

from typing import Literal

import numpy as np

FrameShuffle = Literal["kept", "frames", "chunks", "inside-chunks"]
"""What is put into another order: nothing; all frames; the four quarters of a clip; the frames of each quarter."""

_CHUNKS = 4


def check_shuffle(how: FrameShuffle, num_frames: int) -> None:
    """Raise ValueError where clips of so many frames have no other order of this kind."""
    least = {"kept": 1, "frames": 2, "chunks": _CHUNKS, "inside-chunks": 2 * _CHUNKS}[how]
    whole = how in ("kept", "frames") or num_frames % _CHUNKS == 0
    if num_frames < least or not whole:
        raise ValueError(
            f"shuffle {how} needs at least {least} frames{'' if how == 'frames' else f', a multiple of {_CHUNKS}'}; "
            f"got {num_frames}"
        )


def shuffled_order(rng: np.random.Generator, num_frames: int, how: FrameShuffle) -> np.ndarray:
    """Frame numbers in the order in which they are shown, (num_frames,) int64; never that of time unless kept.

    ``TemporalShuffle`` of VTDL's release with s 1, 2 and 3, all orders of a kind but time's equally likely.
    """
    in_time = np.arange(num_frames, dtype=np.int64)
    order = in_time
    while how != "kept" and np.array_equal(order, in_time):
        order = _drawn(rng, num_frames, how)
    return order


def _drawn(rng: np.random.Generator, num_frames: int, how: FrameShuffle) -> np.ndarray:
    if how == "frames":
        return np.asarray(rng.permutation(num_frames), dtype=np.int64)
    chunks = np.arange(num_frames, dtype=np.int64).reshape(_CHUNKS, -1)
    if how == "chunks":
        return chunks[rng.permutation(_CHUNKS)].reshape(-1)
    return np.concatenate([chunk[rng.permutation(len(chunk))] for chunk in chunks])
