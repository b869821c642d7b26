"""Run folders to a page: which sections it has, and that it stays small enough to be sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element

from data_process.errors import InputError, RunError
from engine.atomic import replacing
from launch.report.attention import attention
from launch.report.confusion import confusion
from launch.report.curves import curves
from launch.report.glance import glance
from launch.report.inputs import inputs
from launch.report.look import Look, look_at
from launch.report.markup import Content, document, node
from launch.report.neighbours import neighbours
from launch.report.results import results
from launch.report.runs import RunFolder, read_runs
from launch.report.scatter import embedding

_LOG = logging.getLogger(__name__)
LARGEST = 5_000_000
"""Bytes of a page."""

_FOR_FILMS = 2_400_000
"""Of them for the retrieval galleries of all runs together."""

_SECTIONS = {
    "neighbours": "Nearest neighbours",
    "embedding": "Embedding",
    "confusion": "Confusion",
    "attention": "Attention over time",
    "inputs": "Inputs",
}
"""What is computed from weights and videos, by anchor."""


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
    asked = runs[:pictures]
    drawn = [_drawn(run, overrides, most_videos, budget=_FOR_FILMS // len(asked)) for run in asked]
    page = document(_page(runs, drawn))
    while len(page) > LARGEST and drawn:
        _LOG.warning("%s is reported without pictures: the page would be too large", drawn.pop()[0].name)
        page = document(_page(runs, drawn))
    if len(page) > LARGEST:
        raise RunError(f"the page would have {len(page) / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}; name fewer runs")
    with replacing(out) as file:
        file.write(page)
    return out


Drawn: TypeAlias = tuple[RunFolder, Mapping[str, list[Element]]]
"""A run with its pictures by the anchor of their section."""


def _drawn(run: RunFolder, overrides: Sequence[str], most_videos: int, *, budget: int) -> Drawn:
    """All pictures of a run, or why it has none; `budget` is what its films may weigh, bytes."""
    try:
        look = look_at(run, overrides, most_videos=most_videos)
    except (InputError, RunError) as error:
        _LOG.warning("%s is reported without pictures: %s", run.name, error)
        return run, dict.fromkeys(_SECTIONS, _left_out(error))
    draw: dict[str, Callable[[Look], list[Element]]] = {
        "neighbours": lambda look: neighbours(look, budget=budget),
        "embedding": embedding,
        "confusion": confusion,
        "attention": attention,
        "inputs": inputs,
    }
    return run, {anchor: _tried(draw[anchor], look) for anchor in _SECTIONS}


def _tried(draw: Callable[[Look], list[Element]], look: Look) -> list[Element]:
    """A section, or what stands against it: one picture that fails must not take the others along."""
    try:
        return draw(look)
    except (InputError, RunError) as error:
        return _left_out(error)


def _left_out(error: Exception) -> list[Element]:
    return [node("p", f"Left out: {error}", class_="note")]


def _page(runs: Sequence[RunFolder], drawn: Sequence[Drawn]) -> Element:
    title = f"intravid report: {', '.join(run.name for run in runs)}"
    main: list[Content] = [glance(runs), results(runs), curves(runs)]
    main += [_pictured(anchor, runs, drawn) for anchor in _SECTIONS if drawn]
    main.append(_settings(runs))
    anchors = {"measures": "Measures", "curves": "Curves"}
    anchors |= {"speed": "Speed"} if any(run.log for run in runs) else {}
    anchors |= _SECTIONS if drawn else {}
    anchors |= {"settings": "Settings"}
    menu = node("nav", node("ul", [node("li", node("a", name, href=f"#{anchor}")) for anchor, name in anchors.items()]))
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", name="color-scheme", content="light dark"),
        node("title", title),
        node("style", (files("launch.report") / "style.css").read_text(encoding="utf-8")),
    )
    opening = node("header", node("h1", "intravid report"), node("p", ", ".join(run.name for run in runs)), menu)
    closing = node(
        "footer",
        node("p", "Everything on this page is in this one file. Written by ", node("code", "intravid report"), "."),
    )
    return node("html", head, node("body", opening, node("main", main), closing), lang="en")


def _pictured(anchor: str, runs: Sequence[RunFolder], drawn: Sequence[Drawn]) -> list[Content]:
    made: list[Content] = [node("h2", _SECTIONS[anchor], id=anchor)]
    for run, pictures in drawn:
        made += [node("h3", run.name) if len(runs) > 1 else None, pictures[anchor]]
    if left_out := len(runs) - len(drawn):
        made.append(node("p", f"{left_out} more runs without pictures; see --pictures.", class_="note"))
    return made


def _settings(runs: Sequence[RunFolder]) -> list[Content]:
    made: list[Content] = [node("h2", "Settings", id="settings")]
    for run in runs:
        text: Any = run.text or "this folder has no config.yaml"
        made.append(node("details", node("summary", run.name), node("pre", text, tabindex=0)))
    return made
