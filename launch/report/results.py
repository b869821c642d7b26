"""Tables of what was measured: controls below it, the published numbers below these, and what differs from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element

from launch.report.confusion import of_test
from launch.report.markup import Content, narrowing_table, node
from launch.report.published import Published
from launch.report.recipes import differences, nearest_published
from launch.report.runs import RunFolder
from launch.results import Results

_NAMES = {
    "knn": "kNN",
    "linear": "linear probe",
    "top1": "test, top 1",
    "top5": "test, top 5",
    "class_mean": "test, mean of classes",
}
_BY_CHANCE = ("knn", "linear", "top1", "class_mean")
_MOST_OPEN = 8


def results(runs: Sequence[RunFolder]) -> list[Element]:
    """The section of measures, a part for each run."""
    text = (
        "Per cent of the judged videos. retrieve@k: the class of a video is among its k nearest of the gallery. One "
        "frame: all frames of a clip are the same one, so that motion cannot help; a network that is no better on "
        "whole clips has learned looks. Clearly above, in the cards: by more than two standard errors of the "
        "difference."
    )
    made: list[Content] = [node("h2", "Measures", id="measures"), node("p", text, class_="faint")]
    if len(runs) > 1:
        made.append(_side_by_side(runs))
    for run in runs:
        made += [node("h3", run.name) if len(runs) > 1 else None, *_of_run(run)]
    return [one for one in made if isinstance(one, Element)]


def _side_by_side(runs: Sequence[RunFolder]) -> Element | None:
    measures = sorted({name for run in runs for one in run.results.values() for name in one.judged}, key=_order)
    if not measures:
        return None
    rows = []
    for run in runs:
        found = {name: run.latest(name) for name in measures}
        weights = ", ".join(dict.fromkeys(one.weights for one in found.values() if one is not None))
        rows.append([run.name, weights or "-", *(_cell(one and one.judged, name) for name, one in found.items())])
        if any(one is not None and one.one_frame for one in found.values()):
            cells = [node("td", _cell(one and one.one_frame, name)) for name, one in found.items()]
            name = node("th", f"{run.name}, one frame", scope="row")
            rows.append(node("tr", name, node("td", weights), cells, class_="control"))
    head = ["", "judged at", *(_NAMES.get(name, name) for name in measures)]
    caption = (
        "Side by side, each with its one-frame control where that was measured; comparable where the judged videos and "
        "the settings of evaluation are the same."
    )
    return narrowing_table(head, rows, caption=caption, label="runs side by side")


def _of_run(run: RunFolder) -> list[Element]:
    groups: dict[tuple[str, str, str], dict[str, Results]] = {}
    for measure in dict.fromkeys(name for one in run.results.values() for name in one.judged):
        found = run.latest(measure)
        if found is not None:
            groups.setdefault((found.weights, found.data, found.query), {})[measure] = found
    made = [_table(run, group) for group in groups.values()]
    tested = run.latest("top1")
    made += of_test(tested) if tested is not None and tested.confusion else []
    if not groups:
        hint = f"intravid retrieve {run.path} && intravid knn {run.path} --controls && intravid linear {run.path}"
        made.append(node("p", "Nothing was measured yet: ", node("code", hint), class_="note"))
    published = _published(run)
    if published is not None:
        if not groups:
            made.append(_published_alone(published))
        if published == nearest_published(run.settings):
            made.append(_differences(run, published.recipe))
    elif run.method:
        made.append(node("p", f"No published number is known for {run.method}.", class_="note"))
    return made


def _published(run: RunFolder) -> Published | None:
    """Figures of the recipe that a run is nearest to; of one that was fine-tuned those of what it began with."""
    own = nearest_published(run.settings)
    first = None if own else nearest_published(run.pretrained)
    return replace(first, retrieval=None) if first else own


def _table(run: RunFolder, group: Mapping[str, Results]) -> Element:
    measures = list(group)
    one = next(iter(group.values()))
    published = _published(run)
    figures = published.by_measure if published else {}
    columns = sorted({*measures, *figures}, key=_order)

    def row(name: Content, values: Mapping[str, float], kind: str | None = None) -> Element:
        cells = [_cell(values, column) for column in columns]
        return node("tr", node("th", name, scope="row"), [node("td", cell) for cell in cells], class_=kind)

    def of(rows: str) -> dict[str, float]:
        return {name: getattr(group[name], rows)[name] for name in measures if name in getattr(group[name], rows)}

    rows = [row(f"{run.name}, {one.weights}", of("judged"), "judged")]
    rows.append(
        row("one frame, repeated", of("one_frame")) if of("one_frame") else _missing(run, measures, len(columns))
    )
    if of("random"):
        rows.append(row("random network", of("random")))
    both = {
        name: group[name].rows[key][name]
        for name in measures
        for key in group[name].rows
        if key.endswith(", random network")
    }
    if both:
        rows.append(row("one frame, random network", both))
    if one.classes > 1:
        single = {name: value for name in measures if (value := _by_chance(name, group[name])) is not None}
        rows.append(row(f"chance, {one.classes} classes of one size", single))
    if published and figures:
        rows.append(row(["published: ", node("code", published.recipe)], figures))
    caption = one.title
    if 0 <= one.step < run.step:
        caption += f". Judged at step {one.step}; the run is at step {run.step}"
    if published and figures:
        searched = "retrieval on UCF101; " if published.retrieval else ""
        caption += (
            f". Published: {published.source}; {searched}accuracies after fine-tuning on all labels; not measured here"
        )
    head = ["", *(_NAMES.get(name, name) for name in columns)]
    return narrowing_table(head, rows, caption=f"{caption}.", label=f"measures of {run.name}")


def _cell(values: Mapping[str, float] | None, name: str) -> str:
    return f"{values[name]:.1f}" if values and name in values else "-"


def _by_chance(measure: str, of: Results) -> float | None:
    """Per cent that guessing reaches where classes have one size; None where that depends on more.

    A random order of the gallery has none of a class's N / C videos among the first k of N with the chance of drawing
    k times without putting back from the others.
    """
    kind, _, k = measure.partition("@")
    if kind == "retrieve" and of.gallery_videos:
        videos, missed = of.gallery_videos, 1.0
        for drawn in range(min(int(k), videos)):
            missed *= max(0.0, videos - videos / of.classes - drawn) / (videos - drawn)
        return 100.0 * (1.0 - missed)
    if measure == "top5":
        return min(100.0, 500.0 / of.classes)
    return 100.0 / of.classes if measure in _BY_CHANCE else None


def _published_alone(published: Published) -> Element:
    columns = sorted(published.by_measure, key=_order)
    row = [["published: ", node("code", published.recipe)], *(f"{published.by_measure[name]:.1f}" for name in columns)]
    caption = f"{published.source}; not measured here."
    return narrowing_table(["", *columns], [row], caption=caption, label="published numbers")


def control_command(run: RunFolder, measures: Sequence[str]) -> str:
    """The command that measures what is not above looks: one frame, and a random network where that can be."""
    wanted = {"knn": "knn", "linear": "linear", "top1": "test"}
    command = next((one for measure, one in wanted.items() if measure in measures), "retrieve")
    return f"intravid {command} {run.path} --controls"


def _missing(run: RunFolder, measures: Sequence[str], columns: int) -> Element:
    cell = node("td", "not measured: ", node("code", control_command(run, measures)), colspan=columns)
    return node("tr", node("th", "one frame, repeated", scope="row"), cell, class_="empty")


def _order(measure: str) -> tuple[int, int, str]:
    kind, _, k = measure.partition("@")
    kinds = ("retrieve", "knn", "linear", "")
    return kinds.index(kind if kind in kinds else ""), int(k or 0), "" if k else measure[::-1]


def _differences(run: RunFolder, recipe: str) -> Element:
    rows = differences(run.settings, recipe)
    text = [
        "What differs from ", node("code", f"configs/pretrain/{recipe}.yaml"),
        f", the published recipe with most in common: {len(rows)} settings",
    ]  # fmt: skip
    body = narrowing_table(
        ["setting", "this run", "published recipe"], rows, label="settings that differ", class_="words"
    )
    return node("details", node("summary", text), body, open=len(rows) <= _MOST_OPEN)
