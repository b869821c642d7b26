"""Run folders to a page: which sections it has, and that it stays small enough to be sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from textwrap import shorten
from typing import Any
from xml.etree.ElementTree import Element

from data_process.errors import InputError, RunError
from engine.atomic import replacing
from launch.report.attention import attention
from launch.report.confusion import confusion
from launch.report.curves import curves
from launch.report.glance import glance
from launch.report.inputs import inputs
from launch.report.look import Look, look_at
from launch.report.markup import Content, breakable, document, node
from launch.report.neighbours import neighbours
from launch.report.results import results
from launch.report.runs import RunFolder, read_runs
from launch.report.scatter import embedding
from launch.report.similarity import similarity

_LOG = logging.getLogger(__name__)
LARGEST = 5_000_000
"""Bytes of a page."""

SECTIONS = {
    "neighbours": "Nearest neighbours",
    "embedding": "Embedding",
    "similarity": "Similarity over time",
    "confusion": "Confusion",
    "attention": "Attention over time",
    "inputs": "Inputs",
}
"""What is computed from weights and videos, by anchor."""

_FOLDED, _MOST_OPEN = ("attention", "inputs"), 2
"""Sections that are folded but for the first run where there are more runs."""

_FROM_A_LOOK: Mapping[str, Callable[[Look], list[Element]]] = {
    "embedding": embedding,
    "similarity": similarity,
    "confusion": confusion,
    "attention": attention,
    "inputs": inputs,
}
"""All of them that have a size of their own."""


def write_report(
    paths: Sequence[Path],
    out: Path,
    *,
    overrides: Sequence[str] = (),
    pictures: int = 3,
    most_videos: int = 4000,
) -> Path:
    """Write one page about these runs, whole or not at all; the path of it.

    Args:
        paths: run folders.
        out: the page.
        overrides: settings for looking at videos, for instance ``--data.root=shards/`` where they were moved.
        pictures: runs, from the first, whose weights and videos are looked at; for the others curves and tables. Fewer
            where the page would be larger than `LARGEST`.
        most_videos: of each split that are looked at.

    Raises:
        InputError: where a folder is no run.
        RunError: if the page cannot be written, or is larger than `LARGEST` without any picture.
    """
    runs = read_runs(paths)
    drawn, absent = _draw_all(runs[:pictures], overrides, most_videos)
    absent += [
        _absent(run.name, _EVERYTHING, f"--pictures {pictures} looks at no more runs") for run in runs[pictures:]
    ]
    room = 0.96 * LARGEST - len(document(_page(runs, [one for one, _ in drawn], absent)))
    for one, look in drawn:
        budget = max(0, int(room / len(drawn)))
        absent += _put(one, "neighbours", partial(neighbours, budget=budget), look)
    whole = [one for one, _ in drawn]
    page = document(_page(runs, whole, absent))
    while len(page) > LARGEST and whole:
        name = whole.pop().run.name
        _LOG.warning("%s is reported without pictures: the page would be too large", name)
        absent.insert(0, _absent(name, _EVERYTHING, f"the page would have more than {LARGEST / 1e6:.0f} MB"))
        page = document(_page(runs, whole, absent))
    if len(page) > LARGEST:
        raise RunError(f"the page would have {len(page) / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}; name fewer runs")
    with replacing(out) as file:
        file.write(page)
    return out


@dataclass(frozen=True)
class _Drawn:
    """A run with its pictures by the anchor of their section."""

    run: RunFolder
    sections: dict[str, list[Element]] = field(default_factory=dict)


def _draw_all(
    runs: Sequence[RunFolder], overrides: Sequence[str], most_videos: int
) -> tuple[list[tuple[_Drawn, Look]], list[str]]:
    """All pictures but films, which get the room that the others leave; and what there is none of, each with its why.

    One picture that fails does not take the others along.
    """
    drawn: list[tuple[_Drawn, Look]] = []
    absent: list[str] = []
    for run in runs:
        try:
            look = look_at(run, overrides, most_videos=most_videos)
        except (InputError, RunError) as error:
            _LOG.warning("%s is reported without pictures: %s", run.name, error)
            absent.append(_absent(run.name, _EVERYTHING, str(error)))
            continue
        one = _Drawn(run)
        for anchor, draw in _FROM_A_LOOK.items():
            absent += _put(one, anchor, draw, look)
        drawn.append((one, look))
    return drawn, absent


def _put(one: _Drawn, anchor: str, draw: Callable[[Look], list[Element]], look: Look) -> list[str]:
    """Draw a section of a run, or say why there is none."""
    try:
        one.sections[anchor] = draw(look)
    except (InputError, RunError) as error:
        return [_absent(one.run.name, SECTIONS[anchor], str(error))]
    return []


_LONGEST_WHY = 300
"""Letters; of a checkpoint that does not fit every weight is told."""
_EVERYTHING = ", ".join(SECTIONS.values())


def _absent(name: str, what: str, why: str) -> str:
    return f"{name}: no {what.lower()}: {shorten(why, _LONGEST_WHY, placeholder=' ...')}"


def _page(runs: Sequence[RunFolder], drawn: Sequence[_Drawn], absent: Sequence[str]) -> Element:
    title = f"intravid report: {', '.join(run.name for run in runs)}"
    shown = {anchor: name for anchor, name in SECTIONS.items() if any(anchor in one.sections for one in drawn)}
    main: list[Content] = [glance(runs), results(runs), curves(runs)]
    main += [_pictured(anchor, runs, drawn) for anchor in shown]
    if absent:
        main += [
            node("h2", "Not on this page", id="absent"),
            node("ul", [node("li", line, class_="absent") for line in absent]),
        ]
    main.append(_settings(runs))
    anchors = {"measures": "Measures", "curves": "Curves"}
    anchors |= {"speed": "Speed"} if any(run.log for run in runs) else {}
    anchors |= shown | ({"absent": "Not on this page"} if absent else {}) | {"settings": "Settings"}
    menu = node("nav", node("ul", [node("li", node("a", name, href=f"#{anchor}")) for anchor, name in anchors.items()]))
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", name="color-scheme", content="light dark"),
        node("title", title),
        node("style", (files("launch.report") / "style.css").read_text(encoding="utf-8")),
    )
    opening = node(
        "header",
        node("h1", "intravid report"),
        node("p", [[", " if run.number else None, breakable(run.name)] for run in runs]),
        menu,
    )
    closing = node(
        "footer",
        node("p", "Everything on this page is in this one file. Written by ", node("code", "intravid report"), "."),
    )
    return node("html", head, node("body", opening, node("main", main), closing), lang="en")


def _pictured(anchor: str, runs: Sequence[RunFolder], drawn: Sequence[_Drawn]) -> list[Content]:
    """A section of all runs; what is said of one is not said again of the next, and long parts of many are folded."""
    made: list[Content] = [node("h2", SECTIONS[anchor], id=anchor)]
    said: set[str] = set()
    having = [one for one in drawn if anchor in one.sections]
    for one in having:
        part = [element for element in one.sections[anchor] if element.tag != "p" or element.text not in said]
        said |= {element.text or "" for element in part if element.tag == "p"}
        if anchor in _FOLDED and len(having) > _MOST_OPEN:
            made.append(node("details", node("summary", one.run.name), part, open=one is having[0]))
        else:
            made += [node("h3", one.run.name) if len(runs) > 1 else None, part]
    return made


def _settings(runs: Sequence[RunFolder]) -> list[Content]:
    made: list[Content] = [node("h2", "Settings", id="settings")]
    for run in runs:
        text: Any = run.text or "this folder has no config.yaml"
        made.append(node("details", node("summary", run.name), node("pre", text, tabindex=0)))
    return made
