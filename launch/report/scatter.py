"""Clips as points of a plane, coloured by class, and how much of their scatter is inside of videos."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import torch
from torch import Tensor

from data_process.contact_sheet import even_numbers
from engine.embedding import embed
from engine.spread import clip_spread
from launch.report.charts import class_key, scatter
from launch.report.look import Look
from launch.report.markup import Content, narrowing_table, node

_MOST_CLIPS = 600
_CLIPS_A_VIDEO = 3
_MOST_KEYS = 24
_PARTS = (("between classes", 0), ("between videos", 6), ("within videos", 5))
"""Of the variance, with their colours."""


def embedding(look: Look) -> list[Element]:
    """Plots of the network and of its first weights with one legend, and the parts of the variance of both."""
    seen, names = look.query, look.classes
    rows = _some_clips(seen.of_video)
    labels = seen.labels[seen.of_video[rows]]
    videos = [seen.videos[int(seen.chosen[place])].id for place in seen.of_video[rows].tolist()]
    told = [f"{names[label]}, {video}" for label, video in zip(labels.tolist(), videos, strict=True)]
    plots, placed_by = [], ""
    for name, clips in _networks(look).items():
        points, placed_by = embed(clips[rows])
        alt = f"{name}: {len(rows)} clips of {len(set(labels.tolist()))} classes, placed by {placed_by}"
        plot = scatter(alt, [(float(x), float(y)) for x, y in points], labels.tolist(), told)
        plots.append(node("figure", node("figcaption", name), plot, class_="chart"))
    text = (
        f"Pooled features of {len(rows)} clips of {len(set(videos))} judged videos, placed by {placed_by}; a mark's "
        "class and video show when it is pointed at. Only who is near whom means something."
    )
    return [
        node("p", text, class_="faint"), _legend(sorted(set(labels.tolist())), names),
        node("div", plots, class_="columns"), *_variance(look),
    ]  # fmt: skip


def _networks(look: Look) -> dict[str, Tensor]:
    return {look.subject.origin: look.query.clips, "random network": look.first_clips}


def _legend(present: Sequence[int], names: Sequence[str]) -> Element:
    keys = node("ul", [node("li", class_key(label), names[label]) for label in present], class_="keys")
    return node("details", node("summary", f"{len(present)} classes"), keys) if len(present) > _MOST_KEYS else keys


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
    rows = []
    for name, clips in _networks(look).items():
        spread = clip_spread(clips, seen.of_video, seen.labels[seen.of_video])
        parts = (spread.between_classes, spread.between_videos, spread.within_videos)
        shares = [100.0 * part / max(spread.total, 1e-12) for part in parts]
        ratio = spread.within_videos / max(spread.between_videos + spread.between_classes, 1e-12)
        rows.append(
            [name, _stack(shares), *(f"{share:.1f} %" for share in shares), f"{ratio:.3f}", f"{spread.total:.3f}"]
        )
    head: list[Content] = [
        "",
        "",
        *((_swatch(colour), f" {name}") for name, colour in _PARTS),
        "within / between",
        "total",
    ]
    text = (
        "Inter- and intra-video variance of the features of all judged clips, divided by their lengths: shares of the "
        "total, which is 0 for a collapsed network and near 1 where features fill the sphere. A contrast of videos "
        "alone lets the part within videos vanish; DualVar (arXiv 2107.01194) is about keeping it."
    )
    return [narrowing_table(head, rows, caption=text, label="inter- and intra-video variance", class_="spread")]


def _stack(shares: Sequence[float]) -> Element:
    widths = [
        f"width: {share:.2f}%; background: var(--c{colour})" for share, (_, colour) in zip(shares, _PARTS, strict=True)
    ]
    return node("div", [node("span", style=one) for one in widths], class_="stack", aria_hidden="true")


def _swatch(colour: int) -> Element:
    """A square of a class's colour."""
    square = node("rect", x=1, y=1, width=10, height=10, style=f"fill: var(--c{colour})")
    return node("svg", square, viewBox="0 0 12 12", aria_hidden="true")
