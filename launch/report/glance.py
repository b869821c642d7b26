"""The first thing on the page: for each run whether it has learned anything, and how far it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from launch.report.charts import number, scale
from launch.report.markup import Content, node
from launch.report.results import control_command
from launch.report.runs import RunFolder
from launch.results import Results

_HEADLINES = {
    "knn": "kNN accuracy",
    "retrieve@1": "retrieval top-1",
    "linear": "linear probe",
    "top1": "top-1 of the test",
}
_CLEAR = 2.0
"""Standard errors of a difference from which it is called clear; both sides are taken for independent."""


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
        below = {
            title: rows[measure]
            for title, rows in (("random network", found.random), ("one frame", found.one_frame))
            if measure in rows
        }
        chance = {"chance": 100.0 / found.classes} if found.classes > 1 else {}
        error = _error(value, found.query_videos)
        told = f"{name} of {found.query_videos} videos at {found.weights}, standard error {error:.1f} points."
        return [
            node("p", f"{value:.1f} %", class_="big"),
            node("p", told),
            scale(value, {**below, **chance}, f"{name} {value:.1f} %"),
            *_verdict(value, below, found, control_command(run, [measure])),
        ]
    return [node("p", "Not judged yet.", class_="faint")]


def _verdict(value: float, below: dict[str, float], found: Results, command: str) -> list[Content]:
    """In words whether the number is more than its controls, each for itself."""
    if not below:
        return [node("p", "No control was measured beside it: ", node("code", command), class_="faint")]
    said: list[Content] = []
    for title, control in below.items():
        gain = value - control
        error = (_error(value, found.query_videos) ** 2 + _error(control, found.query_videos) ** 2) ** 0.5
        if gain > _CLEAR * error:
            kind, word = "good", "\N{CHECK MARK} clearly above"
        elif gain < -_CLEAR * error:
            kind, word = "bad", "\N{MULTIPLICATION X} clearly below"
        else:
            kind, word = "bad", "\N{MULTIPLICATION X} not clearly above"
        said.append(node("li", node("span", word, class_=kind), f" {title}: {gain:+.1f} points"))
    return [node("ul", said, class_="verdict", title=f"clearly: by more than {_CLEAR:.0f} standard errors")]


def _error(percent: float, videos: int) -> float:
    """Standard error of a share of so many videos, in points."""
    share = percent / 100.0
    return 100.0 * (share * (1.0 - share) / max(1, videos)) ** 0.5


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    scalars = run.scalars()
    losses = scalars.get("losses.total", [])
    of_epoch = f", epoch {run.log[-1]['epoch']} from 0" if run.log and "epoch" in run.log[-1] else ""
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
    return ", ".join("/".join(Path(one).parts[-2:]) for one in run.roots if one)
