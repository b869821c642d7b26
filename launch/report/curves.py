"""Curves over steps: losses, pretext accuracies and whatever else a log counts, of several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any
from xml.etree.ElementTree import Element

from launch.report.charts import Series, line_chart, number, run_key
from launch.report.markup import narrowing_table, node, table
from launch.report.meanings import meaning
from launch.report.runs import RunFolder

_ACCURACIES = ("accuracy", "balanced", "found", "top1", "top5")
_FIRST = ("losses.total", "lr")
_TIMES = {
    "samples_per_s": "samples per second",
    "clips_per_s": "clips per second",
    "step_s": "seconds per step",
    "data_wait_s": "seconds waiting for data per step",
    "data_wait_share": "share of time waiting for data",
    "flops_per_s": "operations per second",
    "mfu": "share of the device's operations per second",
    "memory_mb": "device memory, MiB",
    "host_memory_mb": "host memory, MiB",
}
"""What a log tells of speed; logs of earlier versions have less."""

_GROUPS = {
    "loss": ("Losses and learning rate", "Each value is that of one step, averaged over ranks, not over the interval."),
    "judged": (
        "Judged while training",
        "At the step where it was measured; what stands under Measures is of saved weights.",
    ),
    "accuracy": ("Pretext accuracies", "How often the network solves the task that it is trained on: 1 is always."),
    "other": (
        "Other numbers of the method",
        "What tells learning from collapse; docs/methods.md says what to look for.",
    ),
}


def curves(runs: Sequence[RunFolder]) -> list[Element]:
    """The sections of curves and of speed."""
    logged = [run for run in runs if run.log]
    if not logged:
        return [node("h2", "Curves", id="curves"), node("p", "No run has a log yet.", class_="note")]
    of_runs = {run.number: _with_share(run.scalars()) for run in logged}
    found = dict.fromkeys(name for scalars in of_runs.values() for name in scalars)
    shared = [name for name in found if all(name in scalars for scalars in of_runs.values())]
    names = list(dict.fromkeys([*(name for name in _FIRST if name in found), *shared, *found]))
    made = [node("h2", "Curves", id="curves"), _legend(logged) if len(logged) > 1 else None]
    for group, (title, text) in _GROUPS.items():
        if charts := _charts(group, names, logged, of_runs):
            made += [node("h3", title), node("p", text, class_="faint"), charts]
    if all(len(run.log) < 2 for run in logged):
        made.append(node("p", "The log has one record; curves begin with the second.", class_="note"))
    made += [_last_values(logged, of_runs, names), *_speed(logged, of_runs, names)]
    return [one for one in made if one is not None]


def _charts(
    group: str, names: Sequence[str], runs: Sequence[RunFolder], of_runs: Mapping[int, Mapping[str, Any]]
) -> Element | None:
    """A chart for each number of a group that has been logged twice by some run."""
    drawn = [
        name
        for name in names
        if _group(name) == group and any(len(of_runs[run.number].get(name, ())) > 1 for run in runs)
    ]
    return node("div", [_chart(name, runs, of_runs) for name in drawn], class_="charts") if drawn else None


def _with_share(scalars: Mapping[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    """With the share of a step in which the loop waited for data, where the log does not tell it itself."""
    if "data_wait_share" in scalars:
        return dict(scalars)
    waited = dict(scalars.get("data_wait_s", ()))
    shares = [
        (step, waited[step] / length) for step, length in scalars.get("step_s", ()) if step in waited and length > 0
    ]
    return {**scalars, **({"data_wait_share": shares} if shares else {})}


def _group(name: str) -> str:
    kind, _, plain = name.rpartition(".")
    if kind == "losses" or name == "lr":
        return "loss"
    if name in _TIMES:
        return "time"
    if kind and kind != "metrics":
        return "judged"
    return "accuracy" if any(word in plain for word in _ACCURACIES) else "other"


def _chart(name: str, runs: Sequence[RunFolder], of_runs: Mapping[int, Mapping[str, Any]]) -> Element:
    series = [
        Series(run.name, run.number, [step for step, _ in points], [value for _, value in points])
        for run in runs
        if (points := of_runs[run.number].get(name))
    ]
    from_zero = _group(name) in ("accuracy", "time") or "share" in name
    return line_chart(_words(name), series, from_zero=from_zero, meaning=meaning(name))


_WORDS = {
    "losses.total": "total loss",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "skipped": "skipped steps",
    **_TIMES,
}


def _words(name: str) -> str:
    kind, _, plain = name.rpartition(".")
    plain = _WORDS.get(name) or plain.replace("_", " ")
    if kind in ("", "metrics", "evals") or name in _WORDS:
        return plain
    return f"loss {plain}" if kind == "losses" else f"{kind.replace('.', ' ')}: {plain}"


def _legend(runs: Sequence[RunFolder]) -> Element:
    return node("div", node("ul", [node("li", run_key(run.number), run.name) for run in runs]), class_="legend")


def _last_values(
    runs: Sequence[RunFolder], of_runs: Mapping[int, Mapping[str, list[tuple[int, float]]]], names: Sequence[str]
) -> Element:
    rows = []
    for name in names:
        cells = [of_runs[run.number].get(name, ()) for run in runs]
        rows.append([_words(name), *(number(points[-1][1]) if points else "-" for points in cells)])
    head = ["last record", *(f"{run.name}, step {run.step}" for run in runs)]
    made = table(head, rows, label="all numbers of the last records", class_="wrapped")
    few = all(len(run.log) < 2 for run in runs)
    return node("details", node("summary", "All numbers of the last records"), made, open=few)


def _speed(
    runs: Sequence[RunFolder], of_runs: Mapping[int, Mapping[str, list[tuple[int, float]]]], names: Sequence[str]
) -> list[Element]:
    rows = []
    for run in runs:
        scalars = of_runs[run.number]
        clips, steps, shares = (
            [value for _, value in scalars.get(name, ())] for name in ("clips_per_s", "step_s", "data_wait_share")
        )
        memory = [value for _, value in scalars.get("memory_mb", ())]
        rows.append(
            [
                run.name,
                f"{median(clips):.1f}" if clips else "-",
                f"{1000 * median(steps):.0f}" if steps else "-",
                f"{100 * median(shares):.1f}" if shares else "-",
                f"{100 * max(shares):.1f}" if shares else "-",
                f"{max(memory):.0f}" if memory else "-",
            ]
        )
    head = ["run", "clips/s", "ms per step", "waiting for data, %", "at most, %", "device memory, MiB"]
    text = (
        "Medians over the records of the log, curves over the interval since the record before; the machine may have "
        "had other work. Memory is that of the GPU."
    )
    charts = _charts("time", names, runs, of_runs)
    made = [
        node("h2", "Speed", id="speed"),
        node("p", text, class_="faint"),
        narrowing_table(head, rows, label="speed"),
    ]
    return [*made, charts] if charts is not None else made
