"""Contact sheets: a row of evenly spaced frames for each video, with what is known about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_process.decoding import decode
from data_process.errors import RunError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageFont

    from data_process.outcome import Quarantined
    from data_process.source import SourceVideo
    from data_process.video_set import VideoSet

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PAPER, _RULE = (250, 250, 248), (215, 215, 215)
_INK, _FAINT, _WARNING = (25, 25, 30), (105, 105, 110), (190, 30, 20)


@dataclass(frozen=True)
class SheetLayout:
    """Measures of a sheet, pixels.

    Attributes:
        frames: frames of each video, from its first to its last.
        tile: longest side of a frame in the sheet; small frames are enlarged by a whole number.
        text_width: room for the text beside the frames.
        gap: between frames and rows.
        letter: height of the letters.
    """

    frames: int = 8
    tile: int = 128
    text_width: int = 250
    gap: int = 8
    letter: int = 13

    @property
    def line(self) -> int:
        """From one line of text to the next."""
        return self.letter + 5

    @property
    def width(self) -> int:
        """Width of the sheet."""
        return self.text_width + self.frames * (self.tile + self.gap) + 2 * self.gap


@dataclass(frozen=True)
class VideoRow:
    """What a sheet shows of one video.

    Attributes:
        name: its id.
        facts: lines of text.
        warning: what is wrong with it, or empty.
        frame_numbers: of the pictures.
        pictures: frames, already fitted into a tile.
    """

    name: str
    facts: tuple[str, ...]
    warning: str
    frame_numbers: tuple[int, ...]
    pictures: tuple[Image.Image, ...]


def even_numbers(count: int, total: int) -> tuple[int, ...]:
    """`count` whole numbers spread evenly from 0 to total - 1, or all of them where there are fewer."""
    if count >= total:
        return tuple(range(total))
    return tuple(round(number * (total - 1) / max(1, count - 1)) for number in range(count))


def read_row(shards: VideoSet, index: int, layout: SheetLayout) -> VideoRow:
    """Read a video for a sheet; damage is told in the row, so that the other videos can be seen."""
    record = shards[index]
    numbers = even_numbers(layout.frames, record.num_frames)
    label = shards.classes[record.label] if 0 <= record.label < len(shards.classes) else f"label {record.label}"
    facts = (
        label if record.label >= 0 else "no class",
        f"{record.width} x {record.height}, {record.fps:g} frames/s",
        f"{record.num_frames} frames, {record.num_frames / record.fps:.1f} s" if record.fps else "no frame rate",
        record.split,
    )
    try:
        pixels = decode(shards.read_frames(index, numbers), record)
    except RunError as error:
        return VideoRow(record.id, facts, f"cannot be read: {error}", (), ())
    pictures = tuple(_fitted(pixels[number], layout.tile) for number in numbers)
    return VideoRow(record.id, facts, "degraded" if shards.is_degraded(index) else "", numbers, pictures)


def left_out_row(video: SourceVideo, outcome: Quarantined) -> VideoRow:
    """A video file that a build would not store, with the reason and what its header claims."""
    facts = [video.class_name or "no class"]
    if outcome.facts:
        facts.append(f"{outcome.facts['w']} x {outcome.facts['h']} by its header")
    return VideoRow(video.id, (*facts, video.split), f"{outcome.code}: {outcome.detail}", (), ())


def draw_sheet(title: str, rows: Sequence[VideoRow], layout: SheetLayout) -> Image.Image:
    """One page with a row for each video, as high as its pictures or its text."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(layout.letter)
    texts = [_row_text(row, font, layout) for row in rows]
    heights = [_row_height(row, text, layout) for row, text in zip(rows, texts, strict=True)]
    top = 2 * layout.gap + layout.line
    page = Image.new("RGB", (layout.width, top + sum(heights)), _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((layout.gap, layout.gap), title, _INK, font)
    for row, text, height in zip(rows, texts, heights, strict=True):
        draw.line((layout.gap, top, layout.width - layout.gap, top), _RULE)
        for number, (line, colour) in enumerate(text):
            draw.text((layout.gap, top + layout.gap + number * layout.line), line, colour, font)
        for column, (frame, picture) in enumerate(zip(row.frame_numbers, row.pictures, strict=True)):
            left = layout.text_width + layout.gap + column * (layout.tile + layout.gap)
            page.paste(picture, (left, top + layout.gap))
            draw.text((left, top + layout.gap + picture.height + 1), str(frame), _FAINT, font)
        top += height
    return page


def _row_text(row: VideoRow, font: Font, layout: SheetLayout) -> list[tuple[str, tuple[int, int, int]]]:
    """Lines beside the pictures, each with its colour."""
    room = layout.text_width - layout.gap
    told = [(row.name, _INK, 3), *((fact, _FAINT, 1) for fact in row.facts), (row.warning, _WARNING, 6)]
    return [(line, colour) for text, colour, lines in told for line in _wrapped(text, font, room, lines=lines)]


def _row_height(row: VideoRow, text: Sequence[object], layout: SheetLayout) -> int:
    pictures = max((picture.height for picture in row.pictures), default=0) + layout.line
    return max(pictures, len(text) * layout.line) + 2 * layout.gap


def _fitted(pixels: np.ndarray, tile: int) -> Image.Image:
    """A frame scaled to fit a square; whole-number enlargement keeps small frames sharp."""
    from PIL import Image

    picture = as_picture(pixels)
    longest = max(picture.size)
    if longest * 2 <= tile:
        factor = tile // longest
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    picture.thumbnail((tile, tile), Image.Resampling.BICUBIC)
    return picture


def as_picture(pixels: np.ndarray) -> Image.Image:
    """A decoded frame for people: (height, width, 3) uint8 as it is, (height, width, 2) as `flow_picture`."""
    from PIL import Image

    return Image.fromarray(pixels) if pixels.shape[2] == 3 else flow_picture(pixels)


def flow_picture(levels: np.ndarray) -> Image.Image:
    """Optical flow in colours: the hue is the direction, right is red; paler is slower, white does not move.

    Args:
        levels: (height, width, 2) uint8, u and v around 128; a quarter of the bound has the full colour.
    """
    import numpy as np
    from PIL import Image

    u, v = (levels[:, :, component].astype(np.float32) - 128.0 for component in (0, 1))
    direction = np.arctan2(-v, u) % (2 * np.pi)
    speed = np.minimum(np.hypot(u, v) / 32.0, 1.0)
    wheel = np.stack([255 * direction / (2 * np.pi), 255 * speed, np.full_like(u, 255)], axis=2)
    return Image.fromarray(wheel.astype(np.uint8), "HSV").convert("RGB")


def _wrapped(text: str, font: Font, room: int, *, lines: int) -> list[str]:
    """Text cut into lines that fit; where it is longer than they hold, its middle is left out."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    cut = _cut(text, font, room, most=lines + 1)
    kept = sum(len(line) for line in cut[:lines])
    while len(cut) > lines:
        kept -= 1
        head = kept // 2
        cut = _cut(f"{text[:head]}...{text[len(text) - (kept - head) :]}", font, room, most=lines + 1)
    return cut


def _cut(text: str, font: Font, room: int, *, most: int) -> list[str]:
    """The first `most` lines of a text, broken at spaces where a line has one in its second half."""
    lines: list[str] = []
    while text and len(lines) < most:
        length = min(len(text), room)  # no letter is narrower than a pixel
        while length > 1 and font.getlength(text[:length]) > room:
            length -= 1
        if length < len(text) and (space := text.rfind(" ", length // 2, length)) > 0:
            length = space + 1
        lines.append(text[:length].rstrip())
        text = text[length:]
    return lines
