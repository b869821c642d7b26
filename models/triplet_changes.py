"""What becomes of the clips of a triplet between the loader and the network: VTDL's augmentations of whole batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from models.gather import gather_rows
from models.inter_mix import received_stills
from models.planners.orientations import LEGACY_ORIENTATIONS, ORIENTATIONS
from models.planners.triplet import Part, TripletPlanner
from models.views import blend_frame, blend_still, cut_window, oriented, reorder_chunks, still_of

STRONG = "strong_negative"
"""Name of the clip that shows the positive's frames in another order."""

_SHARED = ("mix_weight", "inter_weight", "cut_window", "shuffle_order")


@dataclass(frozen=True)
class TripletChanges:
    """Carries out what a `TripletPlanner` drew beside the clips themselves.

    In this order: each clip is laid in its orientation; the order of the frames of a negative is destroyed; and into
    the mixed clip a still of another video is blended, then one of its own, and a window is cut out of it.

    Attributes:
        clip: which of them are on.
        parts: clips of a batch, in their order.
        mixed: the clip that stills are blended into and a window is cut from.
        shuffled: negative for the clip of another time; positive for a clip more, of the positive's frames.
        shared_draws: weights, window and order of the first sample of the global batch are those of all.
        reuse_mixed: stills come from already mixed clips, see `received_stills`.
        overwritten: 16 orientations as the release has them, of which 4 differ.
    """

    clip: TripletPlanner
    parts: Sequence[Part]
    mixed: Part = "anchor"
    shuffled: Part = "negative"
    shared_draws: bool = False
    reuse_mixed: bool = False
    overwritten: bool = False

    def __post_init__(self) -> None:
        shuffles = self.clip.shuffle != "kept"
        if self.shuffled == "positive" and not shuffles:
            raise ValueError("shuffled_clip positive needs an order of frames: set clip.shuffle, such as to chunks")
        if shuffles and self.shuffled not in self.parts:
            raise ValueError(
                f"clip.shuffle {self.clip.shuffle} works on the {self.shuffled} clip, and there is none: memory bank "
                "has no positive clips, same_video_negative false no negative ones; set shuffled_clip to the other"
            )
        if self.overwritten and self.clip.orientations != 16:
            raise ValueError(
                f"legacy_orientations is about 16 orientations; with clip.orientations {self.clip.orientations} the "
                "release does nothing else, leave it out"
            )
        if self.reuse_mixed and not self.clip.inter_mix_strength:
            raise ValueError(
                "legacy_reuse_mixed is about stills of other videos; set clip.inter_mix_strength, such as 0.3"
            )

    @property
    def is_batchwide(self) -> bool:
        """Whether a clip depends on other samples of the global batch."""
        return self.shared_draws or self.clip.inter_mix_strength > 0

    @property
    def has_strong(self) -> bool:
        """Whether there is a `STRONG` clip."""
        return self.clip.shuffle != "kept" and self.shuffled == "positive"

    def __call__(self, clips: Sequence[Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The clips (B, C, T, H, W) that are changed or made, by part or `STRONG`; of all others nothing.

        Args:
            clips: one of each part.
            targets: of the batch, (B, ...) each.
        """
        targets = self._as_drawn(targets)
        now: dict[str, Tensor] = dict(zip(self.parts, clips, strict=True))
        made: dict[str, Tensor] = {}
        if self.clip.orientations > 1:
            ways = (LEGACY_ORIENTATIONS if self.overwritten else ORIENTATIONS)[self.clip.orientations]
            made |= {
                part: oriented(now[part], targets["orientation"][:, view], ways) for view, part in enumerate(self.parts)
            }
            now |= made
        if self.clip.shuffle != "kept":
            name = STRONG if self.has_strong else "negative"
            made[name] = reorder_chunks(now[self.shuffled], targets["shuffle_order"])
        mixed = self._mixed(now[self.mixed], targets)
        if mixed is not now[self.mixed]:
            made[self.mixed] = mixed
        return made

    def _as_drawn(self, targets: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if not self.shared_draws:
            return targets
        shared = {name: values for name, values in targets.items() if name in _SHARED}
        return {**targets, **{name: gather_rows(values)[:1].expand_as(values) for name, values in shared.items()}}

    def _mixed(self, clips: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        if self.clip.inter_mix_strength:
            still = received_stills(
                still_of(clips, targets["inter_frame"]),
                targets["inter_place"],
                targets["inter_weight"],
                reuse_mixed=self.reuse_mixed,
            )
            clips = blend_still(clips, still, targets["inter_weight"])
        if self.clip.mix_strength:
            clips = blend_frame(clips, targets["mix_frame"], targets["mix_weight"])
        return cut_window(clips, targets["cut_window"]) if self.clip.cut_share else clips
