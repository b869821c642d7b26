"""The first thing on the page: for each run whether it has learned anything, and how far it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from launch.report.charts import number
from launch.report.markup import Content, node
from launch.report.runs import RunFolder

_HEADLINES = {"knn": "kNN accuracy", "retrieve@1": "retrieval top-1", "linear": "linear probe"}


def glance(runs: Sequence[RunFolder]) -> Element:
    """A card for each run."""
    return node("div", [_card(run) for run in runs], class_="cards", id="glance")


def _card(run: RunFolder) -> Element:
    what = ", ".join(part for part in (run.method, run.backbone) if part)
    facts = [(name, value) for name, value in _facts(run) if value]
    return node(
        "section", node("h3", run.name), node("p", what, class_="faint") if what else None, _headline(run),
        node("dl", [(node("dt", name), node("dd", value)) for name, value in facts], class_="facts"), class_="card",
    )  # fmt: skip


def _headline(run: RunFolder) -> list[Content]:
    for measure, name in _HEADLINES.items():
        found = run.latest(measure)
        if found is None:
            continue
        value = found.judged[measure]
        told = []
        if measure in found.random:
            gain = value - found.random[measure]
            told.append(f"{gain:+.1f} points against the random network")
        if measure in found.one_frame:
            told.append(f"one frame alone {found.one_frame[measure]:.1f}")
        if found.classes > 1:
            told.append(f"chance {100.0 / found.classes:.1f}")
        share = value / 100.0
        error = 100.0 * (share * (1.0 - share) / max(1, found.query_videos)) ** 0.5
        told.append(f"standard error {error:.1f}")
        big = node("p", f"{value:.1f} %", class_="big")
        return [big, node("p", f"{name} at {found.weights}, {found.query_videos} videos: {'; '.join(told)}.")]
    return [node("p", "Not judged yet.", class_="faint")]


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    scalars = run.scalars()
    losses = scalars.get("losses.total", [])
    of_epoch = f", epoch {run.log[-1]['epoch']} from 0" if run.log else ""
    return [
        ("steps", f"{run.step}{of_epoch}{_state(run.path)}"),
        ("total loss", f"{number(losses[0][1])} to {number(losses[-1][1])}" if losses else ""),
        ("data", _data(run)),
    ]


def _state(path: Path) -> str:
    try:
        state = json.loads((path / "heartbeat.json").read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, KeyError):
        return ""
    return f", {state}"


def _data(run: RunFolder) -> str:
    root = run.settings.get("data", {}).get("root", "")
    roots = [root] if isinstance(root, str) else root
    return ", ".join("/".join(Path(one).parts[-2:]) for one in roots if one)
