"""Files of measures beside a run, eval-NAME.json: the numbers, what they were measured on, and the rows of control."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_process.errors import InputError
from engine.atomic import replacing

ONE_FRAME = "one frame"
"""Row of clips that repeat one frame, seen by the network that is judged."""

RANDOM = "random network"
"""Row of the network with its first weights."""

RANDOM_ONE_FRAME = "one frame, random network"
PRETRAINED_ONE_FRAME = "one frame, pretrained"
"""What `ONE_FRAME` is called in a table that has `RANDOM_ONE_FRAME` too."""

_CONTROLS = (ONE_FRAME, PRETRAINED_ONE_FRAME, RANDOM, RANDOM_ONE_FRAME)


@dataclass(frozen=True)
class Results:
    """A table of measures.

    Attributes:
        weights: whose they are, for instance ``step 480``.
        data: where the videos lie, for people.
        gallery: split that is searched; empty for the test of a classifier.
        gallery_videos: its size; 0 likewise.
        query: split that is judged.
        query_videos: its size.
        classes: of the labels.
        settings: of evaluation (`engine.features.EvalConfig`), as plain values.
        rows: name of a row to measures in per cent; those whose names stand above are controls, the one other row is
            what was judged.
        confusion: of a classifier: class to class it was taken for to number of videos; those of none are left out.
    """

    weights: str
    data: str
    gallery: str
    gallery_videos: int
    query: str
    query_videos: int
    classes: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusion: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def judged(self) -> Mapping[str, float]:
        """Measures of what was judged."""
        return next((values for name, values in self.rows.items() if name not in _CONTROLS), {})

    @property
    def one_frame(self) -> Mapping[str, float]:
        """Measures of one repeated frame; empty where not measured."""
        return self.rows.get(ONE_FRAME) or self.rows.get(PRETRAINED_ONE_FRAME) or {}

    @property
    def random(self) -> Mapping[str, float]:
        """Measures of the network with its first weights; empty where not measured."""
        return self.rows.get(RANDOM, {})

    @property
    def step(self) -> int:
        """Step of the judged weights; -1 where they are not of a run."""
        told = re.match(r"step (\d+)", self.weights)
        return int(told[1]) if told else -1

    @property
    def title(self) -> str:
        """What was measured on what, in one line."""
        if not self.gallery_videos:  # a classifier needs none
            return f"{self.data}: {self.query_videos} {self.query} videos"
        return f"{self.data}: {self.query_videos} {self.query} videos against {self.gallery_videos}"

    def write(self, path: Path) -> None:
        """Put them into a file, whole or not at all."""
        with replacing(path) as file:
            file.write(json.dumps(asdict(self), indent=1).encode())


def read_results(run_dir: Path) -> dict[str, Results]:
    """All results of a run folder by the NAME of their files.

    Raises:
        InputError: for a file of another form.
    """
    found = {}
    for path in sorted(run_dir.glob("eval-*.json")):
        try:
            found[path.stem.removeprefix("eval-")] = Results(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{path} is no file of measures ({error}); measure again with `intravid retrieve`, `knn`, `linear` or "
                "`test`, or move it away"
            ) from None
    return found
