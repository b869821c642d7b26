"""`intravid inspect`: sheets of stored videos, of video files and of what a run sees; and what a network costs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_process.contact_sheet import SheetLayout, VideoRow

_OWN_SIZE = 1 << 14
"""A short side that no video is scaled down to."""

_TEXT = """\
Draw a row of evenly spaced frames for each video of a folder of shards, or of a video file or a folder of them before
anything is built: its id, class, size, frame rate and length, and whether its source is degraded (the decoder
complains) or would be left out by a build. Videos are spread evenly over the dataset; more than fit a page go to
NAME-001.png, NAME-002.png and so on. Exit status 1 where a video cannot be read.

With --config RECIPE or --run RUN: draw what the method sees, sample by sample: its views frame by frame, their boxes
in the stored frame, where they are in the video, and the targets. Every step is a function of the configuration, so
--step N shows the very batch that a run saw, or will see, at step N. Settings such as --data.root may follow.

With --model: parameters, multiply-adds, feature maps and memory of a network; see intravid inspect --model --help."""

_MODEL_TEXT = """\
Print what each part of a backbone costs for one clip: parameters, multiply-adds, the shape of its feature map, and
the activations that training keeps in memory. Everything is counted from shapes, in a second, whatever the size."""

_MODEL_EXAMPLE = """\
example:
  intravid inspect --model i3d --frames 64 --size 224
  intravid inspect --model r21d --set layers=[2,2,2,2] width=32
  intravid inspect --model configs/smoke/iic.yaml --method.backbone.width 32
  intravid inspect --model runs/iic --json cost.json
"""

_EXAMPLE = """\
example:
  intravid inspect shards/ -o sheet.png --split test --videos 12
  intravid inspect videos/ -o before.png
  intravid inspect --config configs/smoke/iic.yaml --data.root shards/
  intravid inspect --run runs/iic --step 1200 --rank 3 --ranks 8
"""


def main(arguments: list[str]) -> int:
    """Draw the sheets that the arguments ask for, or count what a network costs."""
    # The sheets' own options are others, and settings of a recipe may follow both.
    if any(word.split("=")[0] == "--model" for word in arguments):
        return _show_model(arguments)
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
        raise InputError(f"{settings[0]} is no option of a sheet of videos; see intravid inspect --help")
    return _draw_videos(asked)


def _show_model(arguments: list[str]) -> int:
    asked, overrides = _model_parser().parse_known_args(arguments)
    if asked.help:
        _model_parser().print_help()
        return 0
    from data_process.errors import InputError

    if asked.model is None:
        raise InputError("--model names no network; give a recipe, a run, a file of weights or a backbone such as r3d")
    for name in ("frames", "size"):
        if getattr(asked, name) is not None and getattr(asked, name) < 1:
            raise InputError(f"--{name} {getattr(asked, name)}: a clip has at least 1")
    from launch.model_cost import model_cost, print_cost, write_cost

    cost = model_cost(asked.model, settings=asked.set, overrides=overrides, frames=asked.frames, size=asked.size)
    print_cost(cost)
    if asked.json:
        write_cost(cost, asked.json)
    return 0


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


def _draw_videos(asked: argparse.Namespace) -> int:
    from concurrent.futures import ThreadPoolExecutor

    from data_process.contact_sheet import SheetLayout, draw_sheet, even_numbers
    from data_process.cores import available_cores

    layout = SheetLayout(frames=asked.frames, tile=asked.tile)
    total, read, reason = (_raw if _holds_raw_videos(asked.dataset) else _stored)(asked, layout)
    chosen = even_numbers(asked.videos, total)
    pages = [chosen[first : first + asked.rows] for first in range(0, len(chosen), asked.rows)]
    unreadable = 0
    for number, page in enumerate(pages, start=1):
        with ThreadPoolExecutor(available_cores()) as pool:
            rows = list(pool.map(read, page))
        unreadable += sum(not row.pictures for row in rows)
        title = f"{asked.dataset}, {asked.split or 'all splits'}: {len(chosen)} of {total} videos"
        path = asked.output
        if len(pages) > 1:
            title += f", page {number} of {len(pages)}"
            path = path.with_stem(f"{path.stem}-{number:03d}")
        draw_sheet(title, rows, layout).save(path)
        print(path)
    if unreadable:
        print(f"{unreadable} of {len(chosen)} videos cannot be read; {reason}")
    return 1 if unreadable else 0


def _holds_raw_videos(path: Path) -> bool:
    """Whether it is a video file, or a folder of videos and no shards."""
    from data_process.datasets._files import walk_videos
    from data_process.shard_writer import list_shards

    if not path.is_dir():
        return path.is_file() and path.suffix != ".lmdb"
    return not list_shards(path) and next(walk_videos(path), None) is not None


def _stored(asked: argparse.Namespace, layout: SheetLayout) -> tuple[int, Callable[[int], VideoRow], str]:
    """How many videos the shards hold, the row of each, and what to do about those that cannot be read."""
    from data_process.contact_sheet import read_row
    from data_process.shards import ShardSet

    shards = ShardSet(asked.dataset, split=asked.split)
    reason = f"`intravid verify {asked.dataset} --level 3` says why"
    return len(shards), lambda index: read_row(shards, index, layout), reason


def _raw(asked: argparse.Namespace, layout: SheetLayout) -> tuple[int, Callable[[int], VideoRow], str]:
    """The same of video files, in their own size; each is looked through when its row is drawn."""
    from data_process.contact_sheet import left_out_row, read_row
    from data_process.errors import InputError
    from data_process.raw_videos import RawVideos, find_raw_videos

    found = [video for video in find_raw_videos(asked.dataset) if asked.split in (None, video.split)]
    if not found:
        raise InputError(f"{asked.dataset} holds no videos of the split {asked.split!r}")

    def row(index: int) -> VideoRow:
        videos = RawVideos([found[index]], name=str(asked.dataset), short_side=_OWN_SIZE, jobs=1)
        return left_out_row(*videos.left_out[0]) if videos.left_out else read_row(videos, 0, layout)

    return len(found), row, "`intravid build` would leave them out for the reasons in the sheet"


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
        parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder of shards; or videos, or one")
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


def _model_parser() -> argparse.ArgumentParser:
    """Of `--model`; a recipe's settings may follow."""
    parser = argparse.ArgumentParser(
        prog="intravid inspect",
        description=_MODEL_TEXT,
        epilog=_MODEL_EXAMPLE,
        allow_abbrev=False,
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this")
    parser.add_argument(
        "--model", nargs="?", metavar="WHAT", help="recipe, run, exported weights, r3d, or a class path"
    )
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="of the backbone")
    parser.add_argument("--frames", type=int, metavar="T", help="of a clip (the recipe's, else 16)")
    parser.add_argument("--size", type=int, metavar="S", help="height and width, pixels (the recipe's, else 112)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    return parser
