"""Clips as points of a plane, coloured by class, and how much of their scatter is inside of videos."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import torch
from torch import Tensor

from data_process.contact_sheet import even_numbers
from engine.embedding import embed
from engine.spread import clip_spread
from launch.report.charts import class_key, scatter
from launch.report.look import Look
from launch.report.markup import Content, node

_MOST_CLIPS = 600
_CLIPS_A_VIDEO = 3


def embedding(look: Look) -> list[Element]:
    """The plot with its legend, and the parts of the variance."""
    seen, names = look.query, look.classes
    rows = _some_clips(seen.of_video)
    labels = seen.labels[seen.of_video[rows]]
    points, placed_by = embed(seen.clips[rows])
    present = sorted(set(labels.tolist()))
    told = [
        f"{names[int(label)]}, {seen.videos[int(seen.chosen[video])].id}"
        for label, video in zip(labels, seen.of_video[rows].tolist(), strict=True)
    ]
    alt = (
        f"{len(rows)} clips of {len(present)} classes placed by {placed_by}; points near each other have like features."
    )
    plot = scatter(alt, [(float(x), float(y)) for x, y in points], labels.tolist(), told)
    keys = node("ul", [node("li", class_key(label), names[label]) for label in present], class_="keys")
    many = len(present) > 24
    text = (
        f"Pooled features of {len(rows)} clips of {len(set(seen.of_video[rows].tolist()))} judged videos, placed by "
        f"{placed_by}; a mark's class and video show when it is pointed at. Only who is near whom means something."
    )
    legend = node("details", node("summary", f"{len(present)} classes"), keys) if many else keys
    parts = _variance(look)
    return [
        node("p", text, class_="faint"),
        node("figure", plot, node("figcaption", legend), class_="chart wide"),
        *parts,
    ]


def _some_clips(of_video: Tensor) -> Tensor:
    """Rows of a few clips of videos, both spread evenly."""
    videos = torch.unique(of_video).tolist()
    kept = []
    for place in even_numbers(_MOST_CLIPS // _CLIPS_A_VIDEO, len(videos)):
        rows = (of_video == videos[place]).nonzero().flatten()
        kept += rows[list(even_numbers(_CLIPS_A_VIDEO, len(rows)))].tolist()
    return torch.tensor(kept)


def _variance(look: Look) -> list[Element]:
    seen = look.query
    spread = clip_spread(seen.clips, seen.of_video, seen.labels[seen.of_video])
    total = max(spread.total, 1e-12)
    parts = (
        ("between classes", spread.between_classes, 0),
        ("between videos of a class", spread.between_videos, 6),
        ("within videos", spread.within_videos, 5),
    )
    widths = [(f"width: {100 * value / total:.2f}%", f"background: var(--c{colour})") for _, value, colour in parts]
    bar = node(
        "div", [node("span", style="; ".join(one)) for one in widths],
        class_="stack", role="img",
        aria_label="; ".join(f"{name} {100 * value / total:.1f} per cent" for name, value, _ in parts),
    )  # fmt: skip
    keys: list[Content] = [
        node("li", class_swatch(colour), f"{name} {100 * value / total:.1f} %") for name, value, colour in parts
    ]
    text = (
        f"Variance of the clips' features, divided by their lengths: {spread.total:.3f} in all (0 for a collapsed "
        f"network, near 1 where they fill the sphere). A contrast of videos alone lets the part within videos vanish; "
        "DualVar (arXiv 2107.01194) is about keeping it."
    )
    ratio = spread.within_videos / max(spread.between_videos + spread.between_classes, 1e-12)
    last = f"Within against between videos: {ratio:.3f}."
    return [
        node("h4", "Inter- and intra-video variance"),
        bar,
        node("ul", keys, class_="keys"),
        node("p", text, " ", last, class_="faint"),
    ]


def class_swatch(colour: int) -> Element:
    """A square of a class's colour."""
    square = node("rect", x=1, y=1, width=10, height=10, style=f"fill: var(--c{colour})")
    return node("svg", square, viewBox="0 0 12 12", aria_hidden="true")
