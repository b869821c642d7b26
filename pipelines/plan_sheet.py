"""What a method sees, as a picture: the views of each sample frame by frame, with boxes, spans and targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from data_process.contact_sheet import as_picture
from pipelines.plan import ClipFormat, ClipPlan
from pipelines.plan_text import clip_text, sample_text, target_texts

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont
    from torch import Tensor

    from data_process.records import VideoRecord
    from pipelines.source import PlannedBatch

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PAPER, _RULE = (250, 250, 248), (215, 215, 215)
_INK, _FAINT = (25, 25, 30), (105, 105, 110)
VIEW_COLOURS = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (255, 127, 14), (148, 103, 189), (23, 190, 207))
"""Of the boxes, spans and captions of view 0, 1, ..., over again where there are more."""


@dataclass(frozen=True)
class PlanSheetLayout:
    """Measures of a sheet, pixels.

    Attributes:
        frames: frames shown of each clip, evenly spaced, the first and the last among them.
        tile: side of a frame of a clip.
        source: longest side of the stored frame with the boxes.
        gap: between pictures and rows.
        letter: height of the letters.
    """

    frames: int = 8
    tile: int = 96
    source: int = 220
    gap: int = 8
    letter: int = 12

    @property
    def line(self) -> int:
        """From one line of text to the next."""
        return self.letter + 5

    @property
    def width(self) -> int:
        """Width of the sheet."""
        return self.source + 3 * self.gap + self.frames * (self.tile + 2) + self.gap

    def height(self, num_views: int, *, derived: int, video: int, lines: int) -> int:
        """Height of one sample's part: title, views and derived clips beside the stored frame and spans, targets."""
        views = (num_views + derived) * (self.tile + self.line)
        source = video + 2 * self.gap + num_views * self.gap
        return max(views, source) + (2 + lines) * self.line + self.gap


def draw_plan_sheet(
    title: str,
    batch: PlannedBatch,
    clips: Sequence[Tensor],
    stored: Sequence[np.ndarray],
    clip_format: ClipFormat,
    layout: PlanSheetLayout,
    *,
    derived: Mapping[str, Tensor] = MappingProxyType({}),
) -> Image.Image:
    """One page with the samples of a batch below each other.

    Args:
        title: its first line.
        batch: plans and records of b samples.
        clips: V tensors (b, C, T, S, S) as an executor hands them on, normalised by the clip format.
        stored: for each sample the first frame of its first clip as it is stored, (height, width, C) uint8.
        clip_format: of the clips.
        layout: measures.
        derived: clips (b, C, T, S, S) that are made of these before they are encoded, by name; shown below them.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(layout.letter)
    blocks = [
        _sample(number, batch, clips, stored[number], clip_format, layout, font, derived)
        for number in range(len(batch.index))
    ]
    page = Image.new("RGB", (layout.width, 2 * layout.gap + layout.line + sum(one.height for one in blocks)), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((layout.gap, layout.gap), title, _INK, font)
    top = 2 * layout.gap + layout.line
    for block in blocks:
        draw.line((layout.gap, top, layout.width - layout.gap, top), _RULE)
        page.paste(block, (0, top + 1))
        top += block.height
    return page


def _sample(
    number: int,
    batch: PlannedBatch,
    clips: Sequence[Tensor],
    stored: np.ndarray,
    clip_format: ClipFormat,
    layout: PlanSheetLayout,
    font: Font,
    derived: Mapping[str, Tensor],
) -> Image.Image:
    from PIL import Image, ImageDraw

    plan, record = batch.plans[number], batch.records[number]
    picture = _with_boxes(stored, plan.clips, layout)
    targets = _wrapped(target_texts(plan.targets), font, layout.width - 2 * layout.gap)
    height = layout.height(len(plan.clips), derived=len(derived), video=picture.height, lines=len(targets))
    block = Image.new("RGB", (layout.width, height), _PAPER)
    draw = ImageDraw.Draw(block)
    draw.text((layout.gap, layout.gap // 2), _printable(sample_text(int(batch.index[number]), record)), _INK, font)
    top = layout.line + layout.gap // 2
    block.paste(picture, (layout.gap, top))
    _draw_spans(draw, plan.clips, record, (layout.gap, top + picture.height + layout.gap), layout)
    rows = [
        (clip_text(view, clip), VIEW_COLOURS[view % len(VIEW_COLOURS)], clips[view])
        for view, clip in enumerate(plan.clips)
    ]
    rows += [(f"{name}, made of these", _FAINT, made) for name, made in derived.items()]
    for row, (text, colour, shown) in enumerate(rows):
        place = layout.source + 3 * layout.gap, top + row * (layout.tile + layout.line)
        draw.text(place, text, colour, font)
        _paste_frames(block, _levels(shown[number], clip_format), place, layout)
    bottom = height - layout.gap // 2 - len(targets) * layout.line
    for line, text in enumerate(targets):
        draw.text((layout.gap, bottom + line * layout.line), text, _INK, font)
    return block


def _levels(clip: Tensor, clip_format: ClipFormat) -> np.ndarray:
    """A normalised clip (C, T, S, S) as (T, S, S, C) uint8."""
    mean, std = (np.array(values[: clip_format.channels]) for values in (clip_format.mean, clip_format.std))
    pixels = clip.permute(1, 2, 3, 0).float().cpu().numpy() * std + mean
    return np.clip(np.rint(255.0 * pixels), 0, 255).astype(np.uint8)


def _paste_frames(block: Image.Image, frames: np.ndarray, place: tuple[int, int], layout: PlanSheetLayout) -> None:
    """Some frames of (T, S, S, C) side by side, below a line of text at the place."""
    from PIL import Image

    left, top = place
    shown = np.unique(np.linspace(0, len(frames) - 1, min(layout.frames, len(frames))).round().astype(int))
    for column, number in enumerate(shown.tolist()):
        picture = as_picture(frames[number]).resize((layout.tile, layout.tile), Image.Resampling.BILINEAR)
        block.paste(picture, (left + column * (layout.tile + 2), top + layout.line))


def _with_boxes(stored: np.ndarray, clips: Iterable[ClipPlan], layout: PlanSheetLayout) -> Image.Image:
    """The stored frame with each view's box, turned where it is cut from a rotated frame."""
    from PIL import Image, ImageDraw

    height, width = stored.shape[:2]
    scale = layout.source / max(height, width)
    picture = as_picture(stored).resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    for view, clip in enumerate(clips):
        corners = [(x * scale, y * scale) for x, y in box_corners(clip, height, width)]
        draw.line([*corners, corners[0]], fill=VIEW_COLOURS[view % len(VIEW_COLOURS)], width=2)
    return picture


def box_corners(clip: ClipPlan, height: int, width: int) -> list[tuple[float, float]]:
    """Corners (x, y) of a clip's box in the stored frame, from the top left one clockwise in the rotated frame."""
    box = clip.box
    x = np.array([box.left, box.left + box.width, box.left + box.width, box.left], dtype=float) - width / 2
    y = np.array([box.top, box.top, box.top + box.height, box.top + box.height], dtype=float) - height / 2
    cosine, sine = np.cos(np.radians(clip.angle)), np.sin(np.radians(clip.angle))
    # What stands in the box was rotated counter-clockwise on the screen: its source lies clockwise of it.
    return list(
        zip((cosine * x - sine * y + width / 2).tolist(), (sine * x + cosine * y + height / 2).tolist(), strict=True)
    )


def _draw_spans(
    draw: ImageDraw.ImageDraw,
    clips: Iterable[ClipPlan],
    record: VideoRecord,
    place: tuple[int, int],
    layout: PlanSheetLayout,
) -> None:
    """A line over the video's whole length, and below it where each view's frames are."""
    left, top = place
    unit = layout.source / max(record.num_frames, 1)
    draw.line((left, top, left + layout.source, top), _FAINT, 2)
    for view, clip in enumerate(clips):
        row = top + (view + 1) * layout.gap - 2
        colour = VIEW_COLOURS[view % len(VIEW_COLOURS)]
        draw.line((left + min(clip.frames) * unit, row, left + (max(clip.frames) + 1) * unit, row), colour, 1)
        for frame in clip.frames:
            draw.rectangle((left + frame * unit, row - 2, left + frame * unit + 1, row + 2), colour)


def _wrapped(texts: Sequence[str], font: Font, room: int) -> list[str]:
    """Texts joined to lines that fit."""
    lines: list[str] = []
    for text in texts:
        joined = f"{lines[-1]}   {text}" if lines else text
        if lines and font.getlength(joined) <= room:
            lines[-1] = joined
        else:
            lines.append(text)
    return lines


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
