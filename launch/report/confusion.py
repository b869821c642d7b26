"""Which classes are taken for which, by kNN or a tested classifier, and how well each is found."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import torch

from launch.report.look import Look
from launch.report.markup import Content, breakable, node, table
from launch.results import Results

_LARGEST_MATRIX = 24
"""Classes; of more only the commonest mistakes are listed."""
_WIDE = 12
"""Classes from which a matrix needs the whole width."""
_MISTAKES = 20


def confusion(look: Look) -> list[Element]:
    """The matrix, or the commonest mistakes where there are many classes; and accuracy by class."""
    size = look.votes.shape[1]
    counts = torch.zeros(size, size, dtype=torch.int64)
    counts.index_put_(
        (look.query.labels, look.predicted), torch.ones(len(look.predicted), dtype=torch.int64), accumulate=True
    )
    present = [label for label in range(size) if counts[label].sum() or counts[:, label].sum()]
    right, total = int(counts.diagonal().sum()), int(counts.sum())
    text = (
        f"kNN with k = {look.config.neighbours} on {look.query.extent} against {look.gallery.extent}: {right} of "
        f"{total} right, {100 * right / total:.1f} %."
    )
    names = _names(look, size)
    shown = _matrix(counts, present, names) if len(present) <= _LARGEST_MATRIX else _mistakes(counts, names)
    return [
        node("p", text, class_="faint"),
        _beside(shown, _by_class(look, counts, present, names), len(present)),
    ]


def of_test(tested: Results) -> list[Element]:
    """What `intravid test` has found: the matrix or the commonest mistakes, folded, and accuracy by class."""
    found = tested.confusion
    names = list(dict.fromkeys([*found, *(other for row in found.values() for other in row)]))
    counts = torch.tensor([[found.get(name, {}).get(other, 0) for other in names] for name in names])
    every = list(range(len(names)))
    shown = _matrix(counts, every, names) if len(names) <= _LARGEST_MATRIX else _mistakes(counts, names)
    shares = [
        (row.get(name, 0) / sum(row.values()), name, str(sum(row.values()))) for name, row in found.items() if row
    ]
    rows = [[breakable(name), videos, _bar(share)] for share, name, videos in sorted(shares, key=lambda one: -one[0])]
    by_class = table(
        ["class", "videos", "test, %"],
        rows,
        label="per-class accuracy of the test",
        caption="Per-class accuracy of the test, best first.",
    )
    text = f"Confusion of the test, {tested.title}, {tested.weights}"
    shown = _beside(shown, by_class, len(names))
    return [node("details", node("summary", text), shown, open=len(names) <= _LARGEST_MATRIX)]


def _beside(matrix: Element, by_class: Element, classes: int) -> Element:
    """Both side by side, or one below the other where the matrix is wide."""
    kind = None if _WIDE < classes <= _LARGEST_MATRIX else "columns"
    return node("div", node("div", matrix), node("div", by_class), class_=kind)


def _names(look: Look, size: int) -> list[str]:
    return [look.classes[label] if label < len(look.classes) else f"class {label}" for label in range(size)]


def _matrix(counts: torch.Tensor, present: list[int], names: list[str]) -> Element:
    def cell(row: int, column: int) -> Element:
        share = float(counts[row, column]) / max(1, int(counts[row].sum()))
        kind = "diagonal" if row == column else None
        text = str(int(counts[row, column])) if counts[row, column] else ""
        return node("td", text, style=f"--v: {share:.3f}", class_=kind, title=f"{names[row]} taken for {names[column]}")

    rows = [
        node("tr", node("th", breakable(names[row]), scope="row"), [cell(row, column) for column in present])
        for row in present
    ]
    head: list[Content] = ["is \\ taken for", *(node("span", names[column], class_="upright") for column in present)]
    return table(
        head,
        rows,
        caption="Judged videos by class; the fuller the colour, the larger the share of the row.",
        label="confusion matrix",
        class_="confusion",
    )


def _mistakes(counts: torch.Tensor, names: list[str]) -> Element:
    wrong = counts - torch.diag(counts.diagonal())
    order = torch.argsort(wrong.flatten(), descending=True, stable=True)[:_MISTAKES].tolist()
    pairs = [divmod(place, len(names)) for place in order if wrong.flatten()[place]]
    rows = [
        [names[row], names[column], f"{int(counts[row, column])} of {int(counts[row].sum())}"] for row, column in pairs
    ]
    caption = f"The {len(rows)} commonest mistakes."
    return table(["is", "taken for", "videos"], rows, label="commonest mistakes", caption=caption, class_="words")


def _by_class(look: Look, counts: torch.Tensor, present: list[int], names: list[str]) -> Element:
    nearest_right = look.gallery.labels[look.nearest[:, 0]] == look.query.labels
    rows = []
    for label in present:
        mine = look.query.labels == label
        if videos := int(mine.sum()):
            found, top1 = int(counts[label, label]) / videos, float(nearest_right[mine].double().mean())
            rows.append((found, [breakable(names[label]), str(videos), _bar(found), f"{100 * top1:.1f}"]))
    rows.sort(key=lambda one: -one[0])
    caption = "Per-class accuracy, best first; nearest: of the video nearest to each alone, which is retrieve@1."
    head = ["class", "videos", "kNN, %", "nearest, %"]
    return table(head, [row for _, row in rows], label="per-class accuracy", caption=caption)


def _bar(share: float) -> Element:
    fill = node("span", class_="fill", style=f"--v: {share:.3f}", aria_hidden="true")
    return node("span", fill, f"{100 * share:.1f}", class_="barred")
