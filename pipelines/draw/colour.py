"""Changes of colour and orientation: what augmentation recipes are made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from pipelines.plan import IDENTITY, Photometric


@dataclass(frozen=True)
class ColourJitter:
    """Ranges of random colour changes.

    Attributes:
        brightness: factor uniform in [1 - b, 1 + b], at least 0.
        contrast: likewise.
        saturation: likewise.
        hue: uniform in [-hue, hue], as a share of the whole circle (0.5 is a half turn).
        probability: of changing the four at all.
        one_of_four: only one of the four takes effect, all equally likely. VTDL's recipe, whose code applies each to
            the original frame and keeps the last.
        grey: probability of dropping the colours.
        blur: probability of a Gaussian blur.
        blur_sigma: range of its sigma, output pixels.
        per_frame: every frame has its own four factors and its own grey; the blur is the clip's.
        flicker: grey shows one channel alone, drawn for each frame, as CSTP's release does.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    probability: float = 1.0
    one_of_four: bool = False
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    per_frame: bool = False
    flicker: bool = False

    def __post_init__(self) -> None:
        if self.flicker and self.per_frame:
            raise ValueError("flicker draws the channel of each frame of a clip with one jitter; leave per_frame out")

    @property
    def operations(self) -> frozenset[str]:
        """Names out of `pipelines.plan.OPERATIONS` that a draw may need."""
        colour = self.probability > 0 and max(self.brightness, self.contrast, self.saturation, self.hue) > 0
        used = {"colour": colour, "channel" if self.flicker else "grey": self.grey > 0, "blur": self.blur > 0}
        return frozenset(name for name, is_used in used.items() if is_used)

    def draw(self, rng: np.random.Generator) -> Photometric:
        """One random change; takes the same count of numbers from the generator whatever comes out."""
        return self._from_units(rng.random(9).tolist())

    def draw_clip(self, rng: np.random.Generator, num_frames: int) -> tuple[Photometric, ...]:
        """The change of a clip: one entry, or one for each frame."""
        if not self.operations:
            return (IDENTITY,)
        first = self.draw(rng)
        if self.flicker:
            channels = (3 * rng.random(num_frames)).astype(int).tolist()
            return tuple(replace(first, grey=False, channel=one) for one in channels) if first.grey else (first,)
        if not self.per_frame:
            return (first,)
        others = (self._from_units(units) for units in rng.random((num_frames - 1, 9)).tolist())
        return (first, *(replace(one, blur=first.blur) for one in others))

    def _from_units(self, unit: list[float]) -> Photometric:
        grey = unit[5] < self.grey
        low, high = self.blur_sigma
        blur = low + (high - low) * unit[7] if unit[6] < self.blur else 0.0
        if unit[4] >= self.probability:
            return Photometric(grey=grey, blur=blur) if grey or blur else IDENTITY
        changes = [
            max(0.0, 1.0 + self.brightness * (2.0 * unit[0] - 1.0)),
            max(0.0, 1.0 + self.contrast * (2.0 * unit[1] - 1.0)),
            max(0.0, 1.0 + self.saturation * (2.0 * unit[2] - 1.0)),
            360.0 * self.hue * (2.0 * unit[3] - 1.0),
        ]
        if self.one_of_four:
            kept = int(4 * unit[8])
            changes = [change if place == kept else float(place < 3) for place, change in enumerate(changes)]
        return Photometric(*changes, grey=grey, blur=blur)


class Augmented(NamedTuple):
    """What an `Augmentation` drew, by the names of `ClipPlan`'s fields."""

    angle: float
    tilt: float
    flip: bool
    photometric: tuple[Photometric, ...]


@dataclass(frozen=True)
class Augmentation:
    """What happens to a clip beside its frames, its box and its turns; one draw for all its frames.

    Attributes:
        strong: probability of everything but the flip; without it a clip is plain.
        angle: the whole frame is rotated by up to so many degrees either way, before it is cut.
        tilt: likewise the resized square.
        flip: probability of a mirror image, of strong and plain clips.
        colour: colour changes.
    """

    strong: float = 1.0
    angle: float = 0.0
    tilt: float = 0.0
    flip: float = 0.0
    colour: ColourJitter = field(default_factory=ColourJitter)

    @property
    def operations(self) -> frozenset[str]:
        """Names out of `pipelines.plan.OPERATIONS` that a draw may need."""
        strong = {"rotate": self.angle > 0, "tilt": self.tilt > 0}
        used = {name for name, is_used in strong.items() if is_used} | self.colour.operations if self.strong else set()
        return frozenset(used | ({"flip"} if self.flip > 0 else set()))

    def draw(self, rng: np.random.Generator, num_frames: int) -> Augmented:
        """One random augmentation."""
        strong, angle, tilt, flip = rng.random(4).tolist()
        if strong >= self.strong:
            return Augmented(0.0, 0.0, flip < self.flip, (IDENTITY,))
        colour = self.colour.draw_clip(rng, num_frames)
        return Augmented(self.angle * (2 * angle - 1), self.tilt * (2 * tilt - 1), flip < self.flip, colour)
