"""Clips as small animated pictures inside the page; still ones for those who asked their system for less motion."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

import numpy as np

from launch.report.markup import node

if TYPE_CHECKING:
    from PIL import Image

FRAME_MS = 90


def animated(frames: Sequence[Image.Image], alt: str, *, quality: int = 55) -> Element:
    """A picture that shows frames of one size over and over, 11 a second; its middle frame where motion is unwanted."""
    first = frames[0]
    still = frames[len(frames) // 2]
    source = node("source", srcset=_webp([still], quality), media="(prefers-reduced-motion: reduce)")
    shown = node("img", src=_webp(frames, quality), alt=alt, width=first.width, height=first.height, loading="lazy")
    return node("picture", source, shown)


def picture(image: Image.Image, alt: str, *, quality: int = 82) -> Element:
    """A picture that does not move."""
    return node("img", src=_webp([image], quality), alt=alt, width=image.width, height=image.height, loading="lazy")


def fitted(image: Image.Image, height: int) -> Image.Image:
    """An image of so many pixels in height."""
    from PIL import Image as pil

    width = max(1, round(image.width * height / image.height))
    return image.resize((width, height), pil.Resampling.BICUBIC)


def side_by_side(images: Sequence[Image.Image], size: int, *, gap: int = 2) -> Image.Image:
    """Square images in a row, each of so many pixels."""
    from PIL import Image as pil

    row = pil.new("RGB", (len(images) * (size + gap) - gap, size), "white")
    for place, one in enumerate(images):
        row.paste(one.resize((size, size), pil.Resampling.BICUBIC), (place * (size + gap), 0))
    return row


def heated(frame: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A frame (S, S, 3) uint8 in grey, with heat (S, S) in [0, 1] over it from clear to red to yellow."""
    grey = np.repeat(frame.astype(np.float32).mean(axis=2, keepdims=True), 3, axis=2)
    colour = np.stack([np.full_like(heat, 255.0), 255.0 * np.clip(1.6 * heat - 0.6, 0, 1), np.zeros_like(heat)], axis=2)
    share = 0.75 * heat[..., None]
    return np.rint((1 - share) * grey + share * colour).astype(np.uint8)


def _webp(frames: Sequence[Image.Image], quality: int) -> str:
    data = BytesIO()
    first, *others = (one.convert("RGB") for one in frames)
    animation = {"save_all": True, "append_images": others, "duration": FRAME_MS, "loop": 0} if others else {}
    first.save(data, "WEBP", quality=quality, method=4, **animation)
    return f"data:image/webp;base64,{b64encode(data.getvalue()).decode('ascii')}"
