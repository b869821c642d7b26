"""`intravid report`: one page about runs."""

from __future__ import annotations

import argparse
from pathlib import Path

_TEXT = """\
Write one HTML page about one or more runs: curves side by side, measures with their controls and the published numbers,
speed; and, where weights and shards are there, moving nearest neighbours, an embedding of clips, how alike the clips of
a video are, the confusion matrix, Grad-CAM over time and the augmented clips. Everything is in the one file, which
needs neither network nor scripts; what cannot be shown is listed there with its reason.

Measures are those of `intravid retrieve`, `knn`, `linear` and `test`, which write them beside the run. t-SNE needs
scikit-learn (pip install "intravid[report]"); without it the embedding shows principal components."""

_EXAMPLE = """\
example:
  intravid report runs/iic
  intravid report runs/iic runs/vtdl runs/dualvar --out three.html
  intravid report runs/iic --data.root /disk/ucf101
  intravid report runs/* --pictures 0 --out curves.html
"""


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="intravid report",
        description=_TEXT,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="(report.html in the run folder; of several runs, here)"
    )
    parser.add_argument(
        "--pictures", type=int, default=3, metavar="N", help="runs whose weights and videos are looked at (3)"
    )
    parser.add_argument(
        "--most-videos", type=int, default=4000, metavar="N", help="of each split that are looked at (4000)"
    )
    given, overrides = parser.parse_known_args(arguments)
    from data_process.errors import InputError

    for name in ("pictures", "most_videos"):
        least = 0 if name == "pictures" else 1
        if (value := getattr(given, name)) < least:
            raise InputError(f"--{name.replace('_', '-')} {value}: expected {least} or more")
    out = given.out or (given.runs[0] if len(given.runs) == 1 else Path()) / "report.html"
    if given.out and not out.parent.is_dir():
        raise InputError(f"the folder of {out} does not exist; make it first, or see --out")
    from launch.pretrain import set_up_logging
    from launch.report.write import write_report

    set_up_logging()
    print(write_report(given.runs, out, overrides=overrides, pictures=given.pictures, most_videos=given.most_videos))
    return 0
