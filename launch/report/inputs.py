"""What went into the network: augmented clips, classes, and the labels of the pretext task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from data_process.contact_sheet import even_numbers
from launch.report.animation import picture
from launch.report.look import Look
from launch.report.markup import Content, node, table
from launch.seen import draw_seen
from models.method import DatasetFacts
from pipelines.plan import sample_rng
from pipelines.plan_sheet import PlanSheetLayout

_SAMPLES, _PLANS, _MOST_VALUES, _MOST_CLASSES = 2, 400, 24, 12


def inputs(look: Look) -> list[Element]:
    """A sheet of the first step's clips, and histograms of labels."""
    config = look.subject.loaded.config
    sheet = draw_seen(look.subject.loaded, samples=_SAMPLES, layout=PlanSheetLayout(frames=8, tile=72, source=180))
    alt = f"{_SAMPLES} samples of {look.run.method or 'the method'} at step 0: boxes, spans, clips and targets"
    text = (
        f"What the network got at step 0, {_SAMPLES} of {config.train.global_batch} samples: the stored frame with the "
        "boxes that are cut, where the clips lie in the video, the clips, what is made of them, and the targets."
    )
    pictures = node("div", picture(sheet, alt), class_="scroll sheet", tabindex=0, role="region", aria_label="sheet")
    return [node("p", text, class_="faint"), pictures, *_histograms(look)]


def _histograms(look: Look) -> list[Element]:
    made: list[Content] = []
    of_splits = {
        seen.videos.split or "all": Counter(seen.videos.labels.tolist()) for seen in (look.gallery, look.query)
    }
    made.append(_classes(look.classes, of_splits))
    for name, counts in pretext_labels(look).items():
        total, largest = sum(counts.values()), max(counts.values())
        caption = f"Pretext target {name}: how often each value is drawn, of {total} in epoch 0."
        rows = [[str(value), _bar(counts[value] / largest, str(counts[value]))] for value in sorted(counts)]
        made.append(node("div", table([name, "times"], rows, label=f"target {name}", caption=caption)))
    return [node("h4", "Labels"), node("div", made, class_="columns")]


def _classes(names: Sequence[str], of_splits: Mapping[str, Counter[int]]) -> Element:
    largest = max((count for counts in of_splits.values() for count in counts.values()), default=1)
    present = sorted({label for counts in of_splits.values() for label in counts if label >= 0})
    rows = [
        [names[label] if label < len(names) else str(label)]
        + [_bar(counts[label] / largest, str(counts[label])) for counts in of_splits.values()]
        for label in present
    ]
    made = table(["class", *of_splits], rows, label="videos of each class", caption="Videos of each class.")
    if len(rows) <= _MOST_CLASSES:
        return node("div", made)
    few = {
        name: f"{min(counts.values())} to {max(counts.values())} a class in {name}"
        for name, counts in of_splits.items()
    }
    return node("details", node("summary", f"Videos of {len(rows)} classes: {'; '.join(few.values())}"), made)


def pretext_labels(look: Look) -> dict[str, Counter[Any]]:
    """How often each value of the whole-number targets is drawn, over samples of epoch 0; of targets of few values.

    Of a target that is always an order of the same numbers the orders are counted, as each number is in all of them.
    """
    loaded = look.subject.loaded
    videos = loaded.config.data.open()
    planner = loaded.build_method(DatasetFacts(len(videos), len(videos.classes))).planner()
    found: dict[str, list[tuple[int, ...]]] = {}
    for index in even_numbers(_PLANS, len(videos)):
        plan = planner(sample_rng(loaded.config.train.seed, 0, index), videos[index])
        for name, value in plan.targets.items():
            if name != "label" and np.issubdtype(value.dtype, np.integer) and value.size <= _MOST_VALUES:
                found.setdefault(name, []).append(tuple(value.reshape(-1).tolist()))
    counted = {name: _counted(values) for name, values in found.items()}
    return {name: counts for name, counts in counted.items() if len(counts) <= _MOST_VALUES}


def _counted(values: Sequence[tuple[int, ...]]) -> Counter[Any]:
    if all(len(one) > 1 and sorted(one) == list(range(len(one))) for one in values):
        return Counter(" ".join(map(str, one)) for one in values)
    return Counter(number for one in values for number in one)


def _bar(share: float, text: str) -> Element:
    fill = node("span", class_="fill", style=f"--v: {share:.3f}", aria_hidden="true")
    return node("span", fill, text, class_="barred")
