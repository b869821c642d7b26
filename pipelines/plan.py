"""A sample before it is pixels: which frames, which box, which colours, and the targets that follow from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from data_process.records import VideoRecord

PLAN_VERSION = 2
"""Raised whenever the same seed would give other plans; a checkpoint refuses to resume under another version."""

DIGESTS = 1 << 62
"""Number of digests of a batch of plans; a few of them add up within int64."""

OPERATIONS = ("rotate", "pad", "colour", "grey", "channel", "tilt", "flip", "turn", "blur")
"""What may be done to a clip beside cropping and resizing, in the order in which executors do it.

They rotate the frame, cut the box (black where it reaches outside), change its colours, resize it, tilt, flip and turn
the square, and blur it. Each step gives whole grey levels; a rotation followed by colours is rounded once, behind the
colours. Colours come before the resize (torchvision's recipes have them behind it, which differs by what is clipped
only), since they may amplify a difference of one level, and resizing levels is where executors differ by one.
"""


@dataclass(frozen=True, slots=True)
class Box:
    """Crop box in whole pixels of the stored frame.

    Attributes:
        top: first row; negative where the box reaches outside.
        left: first column, likewise.
        height: rows.
        width: columns.
    """

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a box needs height, width >= 1, got {self}")

    def is_inside(self, height: int, width: int) -> bool:
        """Whether it lies in a frame of this size as a whole."""
        return min(self.top, self.left) >= 0 and self.top + self.height <= height and self.left + self.width <= width

    def within(self, height: int, width: int) -> Box | None:
        """The part of it that lies in a frame of this size; None where there is none."""
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.height, height), min(self.left + self.width, width)
        return Box(top, left, bottom - top, right - left) if bottom > top and right > left else None


@dataclass(frozen=True, slots=True)
class Photometric:
    """Colour changes of one frame, in the order of the fields: of the crop, but for the blur of the resized square.

    Brightness, contrast, saturation and hue are one linear map of RGB in grey levels (the definition of DALI's
    ``color_twist``, shared by all executors): ``brightness * (128 + contrast * (v - 128))`` with
    ``v = Y^-1 R(hue) diag(1, s, s) Y rgb`` in YIQ-like coordinates, rounded and clipped to 0..255 once.

    Attributes:
        brightness: factor.
        contrast: factor around grey level 128.
        saturation: factor of the chroma; 0 is grey.
        hue: rotation of the chroma, degrees.
        grey: drop the chroma, the same as saturation 0 (0.299 R + 0.587 G + 0.114 B to within a level).
        blur: sigma of a Gaussian in output pixels, radius ceil(3 sigma), borders reflected; 0 for none.
        channel: 0, 1 or 2 to show red, green or blue alone, three times, behind the other colours; None for all. Not
            together with `grey`.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    grey: bool = False
    blur: float = 0.0
    channel: int | None = None

    def __post_init__(self) -> None:
        if self.channel not in (None, 0, 1, 2) or (self.grey and self.channel is not None):
            raise ValueError(f"channel must be None, 0, 1 or 2, and None beside grey, got {self}")
        if min(self.brightness, self.contrast, self.saturation, self.blur) < 0:
            raise ValueError(f"brightness, contrast, saturation and blur must not be negative, got {self}")

    @property
    def changes_colour(self) -> bool:
        """Whether the linear colour map is other than the identity."""
        return (self.brightness, self.contrast, self.saturation, self.hue) != (1.0, 1.0, 1.0, 0.0)

    @property
    def grey_column(self) -> int:
        """What stands for it in the column grey of `ClipPlan.parameters`."""
        return int(self.grey) if self.channel is None else 2 + self.channel


IDENTITY = Photometric()

PARAMETERS = (
    "top", "left", "height", "width", "flip", "turns", "angle", "tilt",
    "brightness", "contrast", "saturation", "hue", "grey", "blur",
)  # fmt: skip
"""Columns of `ClipPlan.parameters`; grey is 1 for no colours, 2, 3 or 4 for one channel alone."""


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """Everything needed to cut one clip from a stored video; `OPERATIONS` says in which order it is applied.

    Attributes:
        frames: frame numbers, length T, from 0, any order, repeats allowed.
        angle: small rotation of the whole frame about its centre, degrees counter-clockwise, bilinear, black corners.
        box: crop box in the (unturned) stored frame, cut before resizing to the clip format's square size.
        padded: whether the box may reach outside the frame, where it is black.
        tilt: small rotation of the resized square, like `angle`.
        flip: mirror left and right.
        quarter_turns: counter-clockwise turns by 90 degrees of the resized square, 0..3.
        photometric: one entry for the whole clip, or one per frame.
    """

    frames: tuple[int, ...]
    box: Box
    angle: float = 0.0
    padded: bool = False
    tilt: float = 0.0
    flip: bool = False
    quarter_turns: int = 0
    photometric: tuple[Photometric, ...] = (IDENTITY,)

    def __post_init__(self) -> None:
        if not self.frames or min(self.frames) < 0:
            raise ValueError(f"a clip needs frame numbers from 0, got {self.frames}")
        if self.quarter_turns not in (0, 1, 2, 3):
            raise ValueError(f"quarter_turns must be 0..3, got {self.quarter_turns}")
        if len(self.photometric) not in (1, len(self.frames)):
            raise ValueError(
                f"photometric needs 1 or {len(self.frames)} (one per frame) entries, got {len(self.photometric)}"
            )

    @property
    def operations(self) -> frozenset[str]:
        """The names out of `OPERATIONS` that this clip needs."""
        used = {
            "rotate": self.angle != 0,
            "pad": self.padded,
            "tilt": self.tilt != 0,
            "flip": self.flip,
            "turn": self.quarter_turns != 0,
            "colour": any(p.changes_colour for p in self.photometric),
            "grey": any(p.grey for p in self.photometric),
            "channel": any(p.channel is not None for p in self.photometric),
            "blur": any(p.blur > 0 for p in self.photometric),
        }
        return frozenset(name for name, is_used in used.items() if is_used)

    def parameters(self) -> np.ndarray:
        """One row per frame, (T, 14) float32, columns named by `PARAMETERS`."""
        box = self.box
        geometry = (box.top, box.left, box.height, box.width, self.flip, self.quarter_turns, self.angle, self.tilt)
        rows = [
            (*geometry, p.brightness, p.contrast, p.saturation, p.hue, p.grey_column, p.blur) for p in self.photometric
        ]
        table = np.array(rows, dtype=np.float32)
        return table if len(rows) == len(self.frames) else np.repeat(table, len(self.frames), axis=0)

    def check_fits(self, record: VideoRecord) -> None:
        """Raise ValueError where frames or box lie outside the stored video."""
        if max(self.frames) >= record.num_frames:
            raise ValueError(f"{record.id}: frame {max(self.frames)} was planned, the video has {record.num_frames}")
        if not self.padded and not self.box.is_inside(record.height, record.width):
            raise ValueError(f"{record.id}: {self.box} exceeds the frame of {record.height} x {record.width}")


@dataclass(frozen=True)
class SamplePlan:
    """The clips of one sample and what follows from them.

    Attributes:
        clips: V clip plans, one per view.
        targets: named arrays (labels, frame orders, mixing weights, bank rows); the same names, shapes and dtypes
            for every sample of a method. Computed from the final geometry, never drawn apart from it.
    """

    clips: tuple[ClipPlan, ...]
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.clips:
            raise ValueError("a sample needs at least one clip")
        object.__setattr__(self, "targets", {name: np.asarray(value) for name, value in self.targets.items()})

    def digest(self) -> str:
        """SHA-256 over everything in the plan; equal plans give equal digests on any machine."""
        state = hashlib.sha256()
        for clip in self.clips:
            state.update(np.asarray(clip.frames, dtype="<i8").tobytes())
            state.update(clip.parameters().astype("<f4").tobytes())
        for name in sorted(self.targets):
            value = self.targets[name]
            state.update(f"{name}{value.dtype.str}{value.shape}".encode())
            state.update(np.ascontiguousarray(value).tobytes())
        return state.hexdigest()


Planner = Callable[[np.random.Generator, VideoRecord], SamplePlan]
"""Draws the plan of one sample from its own generator and the video's record; a plain, picklable function."""


Modality = Literal["rgb", "flow", "flow-u", "flow-v"]
"""What a clip's channels are; see `ClipFormat`."""

Interpolation = Literal["bilinear", "bicubic"]
"""How crops are resized, antialiased, as Pillow does it on the crop alone."""

Component = Literal["flow-u", "flow-v"]
"""A component of optical flow: to the right, and down."""


IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of levels / 255 over ImageNet, per channel: what VTDL and DualVar normalise clips by."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Likewise."""


@dataclass(frozen=True)
class ClipFormat:
    """What all clips of a batch have in common.

    Attributes:
        num_views: V, clips per sample.
        num_frames: T, frames per clip.
        size: output height and width, pixels.
        mean: subtracted from levels / 255, per channel.
        std: divided by, per channel.
        operations: names out of `OPERATIONS` that plans may use; executors leave out all others and refuse a plan
            that needs one of them.
        modality: rgb, three channels; flow, the two of optical flow; flow-u or flow-v, one of them three times, as
            networks for RGB take it and IIC stores it. Vectors follow the geometry: pixels of the clip from a frame to
            the next, as levels ``128 + 127 * pixels / bound``, cut at the bound that the videos were stored with. So
            the mean 128 / 255 and the std 127 / 255 give displacements in bounds, -1 to 1, no motion 0. Changes of
            colour and blur leave flow as it is; of mean and std as many count as there are channels.
        interpolation: of the resize.
        flow: flow-u or flow-v adds the same V clips of the optical flow of the same videos, behind those of frames.
    """

    num_views: int
    num_frames: int
    size: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    operations: frozenset[str] = frozenset()
    modality: Modality = "rgb"
    flow: Component | None = None
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.modality not in get_args(Modality):
            raise ValueError(f"modality {self.modality!r}: expected one of {', '.join(get_args(Modality))}")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation {self.interpolation!r}: expected one of {get_args(Interpolation)}")
        if self.flow is not None and (self.is_flow or self.flow not in get_args(Component)):
            raise ValueError(f"flow {self.flow!r} beside {self.modality}: expected flow-u or flow-v beside rgb")
        if min(self.num_views, self.num_frames, self.size) < 1:
            raise ValueError(f"num_views, num_frames and size must be at least 1, got {self}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        if unknown := set(self.operations) - set(OPERATIONS):
            raise ValueError(f"unknown operations {sorted(unknown)}; known are {OPERATIONS}")

    @property
    def is_flow(self) -> bool:
        """Whether videos of optical flow are read."""
        return self.modality != "rgb"

    @property
    def component(self) -> int | None:
        """Component of the flow that is shown alone: 0 for u, 1 for v."""
        return {"flow-u": 0, "flow-v": 1}.get(self.modality)

    @property
    def channels(self) -> int:
        """C, 3 or 2."""
        return 2 if self.modality == "flow" else 3

    @property
    def of_frames(self) -> ClipFormat:
        """The format of the clips of frames alone."""
        return replace(self, flow=None)

    @property
    def of_flow(self) -> ClipFormat:
        """The format of the clips of flow that are added.

        Raises:
            ValueError: where none are.
        """
        if self.flow is None:
            raise ValueError("these clips have no flow beside them")
        return replace(self, modality=self.flow, flow=None)

    @cached_property
    def frames_per_sample(self) -> int:
        """V x T."""
        return self.num_views * self.num_frames

    def check(self, plan: SamplePlan) -> None:
        """Raise ValueError where a plan does not have this format."""
        if len(plan.clips) != self.num_views:
            raise ValueError(f"a plan of {len(plan.clips)} clips was drawn, the format has {self.num_views} views")
        for clip in plan.clips:
            if len(clip.frames) != self.num_frames:
                raise ValueError(f"a clip of {len(clip.frames)} frames was drawn, the format has {self.num_frames}")
            if undeclared := clip.operations - self.operations:
                raise ValueError(f"a clip needs {sorted(undeclared)}, which the clip format does not declare")


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Generator of one sample: Philox keyed by seed and counted from (epoch, index), independent of all others."""
    key = np.array([seed, 0x1D872B41], dtype=np.uint64)
    counter = np.array([0, 0, index, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
