"""Retrieval to be watched: judged videos and the gallery's nearest, moving, right and wrong marked."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from data_process.contact_sheet import as_picture
from data_process.decoding import decode
from launch.report.animation import FRAME_MS, animated, fitted
from launch.report.look import NEIGHBOURS, Look, Seen
from launch.report.markup import breakable, node

if TYPE_CHECKING:
    from PIL import Image

QUERIES = 8
_FRAMES = 16
_HEIGHTS = (96, 72, 56, 40)
"""Of the pictures, pixels: the first with which all of them fit into the budget."""


def neighbours(look: Look, *, budget: int) -> list[Element]:
    """Rows of a query and its nearest videos; `budget` is what they may weigh together, bytes."""
    places = look.examples(QUERIES)
    for height in _HEIGHTS:
        rows = [_row(look, place, height) for place in places]
        if sum(len(one.get("src") or one.get("srcset") or "") for row in rows for one in row.iter()) <= budget:
            break
    right = int((look.gallery.labels[look.nearest[:, 0]] == look.query.labels).sum())
    total = len(look.query.labels)
    text = (
        f"The first video of each of {len(places)} classes, chosen before anything was known of the result, and its "
        f"{NEIGHBOURS} nearest of {look.gallery.extent}. A whole frame: of the same class; a broken one: of another. "
        f"Of all {total} judged videos {right} have one of their own class nearest ({100 * right / total:.1f} %)."
    )
    return [node("p", text, class_="faint"), node("div", rows, class_="films")]


def _row(look: Look, place: int, height: int) -> Element:
    truth = look.classes[int(look.query.labels[place])]
    query = _film(look.query, place, height, f"Query: {truth}", "query", node("strong", breakable(truth)), "query")
    shown = [query]
    pairs = zip(look.nearest[place].tolist(), look.similarity[place].tolist(), strict=True)
    for rank, (other, cosine) in enumerate(pairs, start=1):
        name = look.classes[int(look.gallery.labels[other])]
        kind, mark = ("right", "\N{CHECK MARK}") if name == truth else ("wrong", "\N{MULTIPLICATION X}")
        alt = f"Neighbour {rank} of {truth}: {name}, {kind}"
        caption = node("span", f"{mark} ", breakable(name), class_="good" if kind == "right" else "bad")
        shown.append(_film(look.gallery, other, height, alt, kind, caption, f"cosine {cosine:.3f}"))
    return node("div", shown, class_="film", tabindex=0, role="group", aria_label=f"query {truth} and its neighbours")


def _film(seen: Seen, place: int, height: int, alt: str, kind: str, name: Element, below: str) -> Element:
    moving = animated(stored_frames(seen, place, height), alt)
    return node("figure", moving, node("figcaption", name, node("br"), below), class_=kind)


def stored_frames(seen: Seen, place: int, height: int) -> list[Image.Image]:
    """Frames from the middle of a stored video, as fast as it was taken."""
    index = int(seen.chosen[place])
    record = seen.videos[index]
    step = max(1, round((record.fps or 25.0) * FRAME_MS / 1000))
    span = min(_FRAMES, max(1, record.num_frames // step))
    first = (record.num_frames - (span - 1) * step) // 2
    numbers = [first + step * number for number in range(span)]
    pixels = decode(seen.videos.read_frames(index, numbers), record)
    return [fitted(as_picture(pixels[number]), height) for number in numbers]
