"""`intravid inspect`: contact sheets of stored videos."""

from __future__ import annotations

import argparse
from pathlib import Path

_TEXT = """\
Draw a row of evenly spaced frames for each stored video, with its id, class, size, frame rate and length, and whether
its source was degraded (the decoder complained). Videos are spread evenly over the dataset; more than fit a page go to
NAME-001.png, NAME-002.png and so on. Exit status 1 where a stored video cannot be read."""

_EXAMPLE = """\
example:
  intravid inspect shards/ -o sheet.png --split test --videos 12
"""


def main(arguments: list[str]) -> int:
    """Draw the sheets that the arguments ask for."""
    asked = _parser().parse_args(arguments)
    from data_process.errors import InputError

    if asked.output.suffix.lower() != ".png":
        raise InputError(f"{asked.output} does not end in .png; the sheet is a PNG picture: see --output")
    if not asked.output.parent.is_dir():
        raise InputError(f"the folder of {asked.output} does not exist; make it first, or see --output")
    for name in ("videos", "frames", "rows", "tile"):
        if getattr(asked, name) < 1:
            raise InputError(f"--{name} {getattr(asked, name)} shows nothing; it must be at least 1")
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intravid inspect",
        description=_TEXT,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder of shards")
    parser.add_argument("-o", "--output", type=Path, default=Path("sheet.png"), metavar="PNG", help="(sheet.png)")
    parser.add_argument("--videos", type=int, default=20, metavar="N", help="most videos to show (default 20)")
    parser.add_argument("--split", metavar="SPLIT", help="train, val or test (default all)")
    parser.add_argument("--frames", type=int, default=8, metavar="T", help="frames of each video (default 8)")
    parser.add_argument("--rows", type=int, default=20, metavar="R", help="videos on a page (default 20)")
    parser.add_argument("--tile", type=int, default=128, metavar="PX", help="longest side of a frame (default 128)")
    return parser
