"""`intravid inspect`: contact sheets of stored videos, and of what a method or a run sees."""

from __future__ import annotations

import argparse
from pathlib import Path

_TEXT = """\
Draw a row of evenly spaced frames for each stored video, with its id, class, size, frame rate and length, and whether
its source was degraded (the decoder complained). Videos are spread evenly over the dataset; more than fit a page go to
NAME-001.png, NAME-002.png and so on. Exit status 1 where a stored video cannot be read.

With --config RECIPE or --run RUN: draw what the method sees, sample by sample: its views frame by frame, their boxes
in the stored frame, where they are in the video, and the targets. Every step is a function of the configuration, so
--step N shows the very batch that a run saw, or will see, at step N. Settings such as --data.root may follow."""

_EXAMPLE = """\
example:
  intravid inspect shards/ -o sheet.png --split test --videos 12
  intravid inspect --config configs/smoke/iic.yaml --data.root shards/
  intravid inspect --run runs/iic --step 1200 --rank 3 --ranks 8
"""


def main(arguments: list[str]) -> int:
    """Draw the sheets that the arguments ask for."""
    seen = any(word.split("=")[0] in ("--config", "--run") for word in arguments)
    asked, settings = _parser(seen=seen).parse_known_args(arguments)
    from data_process.errors import InputError

    if asked.output.suffix.lower() != ".png":
        raise InputError(f"{asked.output} does not end in .png; the sheet is a PNG picture: see --output")
    if not asked.output.parent.is_dir():
        raise InputError(f"the folder of {asked.output} does not exist; make it first, or see --output")
    for name in ("videos", "frames", "rows", "tile"):
        if getattr(asked, name) < 1:
            raise InputError(f"--{name} {getattr(asked, name)} shows nothing; it must be at least 1")
    if seen:
        return _draw_seen(asked, settings)
    if settings:
        raise InputError(f"{settings[0]} is no option of a sheet of stored videos; see intravid inspect --help")
    return _draw_stored(asked)


def _draw_seen(asked: argparse.Namespace, settings: list[str]) -> int:
    from data_process.errors import InputError
    from launch.config import load_run
    from launch.seen import draw_seen
    from pipelines.plan_sheet import PlanSheetLayout

    if asked.config and asked.run:
        raise InputError("--config and --run: give one; the run has a configuration of its own")
    loaded = load_run(asked.config or asked.run / "config.yaml", settings)
    layout = PlanSheetLayout(frames=asked.frames, tile=asked.tile)
    sheet = draw_seen(
        loaded, step=asked.step, rank=asked.rank, ranks=asked.ranks, samples=asked.videos, layout=layout
    )  # fmt: skip
    sheet.save(asked.output)
    print(asked.output)
    return 0


def _draw_stored(asked: argparse.Namespace) -> int:
    from data_process.contact_sheet import SheetLayout, draw_sheet, even_numbers, read_row
    from data_process.shards import ShardSet

    shards = ShardSet(asked.dataset, split=asked.split)
    layout = SheetLayout(frames=asked.frames, tile=asked.tile)
    chosen = even_numbers(asked.videos, len(shards))
    pages = [chosen[first : first + asked.rows] for first in range(0, len(chosen), asked.rows)]
    unreadable = 0
    for number, page in enumerate(pages, start=1):
        rows = [read_row(shards, index, layout) for index in page]
        unreadable += sum(not row.pictures for row in rows)
        title = f"{asked.dataset}, {asked.split or 'all splits'}: {len(chosen)} of {len(shards)} videos"
        path = asked.output
        if len(pages) > 1:
            title += f", page {number} of {len(pages)}"
            path = path.with_stem(f"{path.stem}-{number:03d}")
        draw_sheet(title, rows, layout).save(path)
        print(path)
    if unreadable:
        print(
            f"{unreadable} of {len(chosen)} videos cannot be read; `intravid verify {asked.dataset} --level 3` says why"
        )
    return 1 if unreadable else 0


def _parser(*, seen: bool) -> argparse.ArgumentParser:
    """Of sheets of what a method sees, behind whose options settings follow; or of stored videos."""
    parser = argparse.ArgumentParser(
        prog="intravid inspect",
        description=_TEXT,
        epilog=_EXAMPLE,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if not seen:
        parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder of shards")
    parser.add_argument("--config", type=Path, metavar="RECIPE", help="show what this recipe's method sees")
    parser.add_argument("--run", type=Path, metavar="RUN", help="show what the run of this folder saw or will see")
    parser.add_argument("--step", type=int, default=0, metavar="N", help="of the recipe or run, from 0 (default 0)")
    parser.add_argument("--rank", type=int, default=0, metavar="R", help="whose part of the batch (default 0)")
    parser.add_argument("--ranks", type=int, default=1, metavar="W", help="ranks that share it (default 1: the whole)")
    parser.add_argument("-o", "--output", type=Path, default=Path("sheet.png"), metavar="PNG", help="(sheet.png)")
    parser.add_argument("--videos", type=int, default=20, metavar="N", help="most videos or samples (default 20)")
    parser.add_argument("--split", metavar="SPLIT", help="train, val or test (default all)")
    parser.add_argument("--frames", type=int, default=8, metavar="T", help="frames of each video or clip (default 8)")
    parser.add_argument("--rows", type=int, default=20, metavar="R", help="videos on a page (default 20)")
    parser.add_argument("--tile", type=int, default=128, metavar="PX", help="longest side of a frame (default 128)")
    return parser
