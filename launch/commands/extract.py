"""`intravid extract`: features of videos and clips as arrays."""

from __future__ import annotations

import argparse
from pathlib import Path

from launch.commands._config import add_config

EXAMPLE = """\
example:
  intravid extract runs/iic -o features/iic                      # train.npy, test.npy: one row a video
  intravid extract runs/iic -o features/iic --split test --per-clip --safetensors
  torchrun --nproc-per-node 8 -m launch extract runs/iic -o features/iic --eval.feature pooled
"""


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="intravid extract",
        description="Write the features of every video of a split: SPLIT.npy with one row a video (the mean over its "
        "clips) and SPLIT.json, which tells the ids, labels and clips of the rows. Started again it goes on where it "
        "ended, with any number of ranks. The eval settings say which clips and which features.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="run folder, checkpoint, or recipe (then: random weights)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="folder of the arrays")
    parser.add_argument(
        "--split", action="append", default=[], help="may be given several times (eval.gallery and eval.query)"
    )
    parser.add_argument(
        "--per-clip", action="store_true", help="write SPLIT-clips.npy too, one row a clip, those of a video together"
    )
    parser.add_argument("--safetensors", action="store_true", help="write the same as SPLIT.safetensors too")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="use this file of `intravid export` or `import` instead; `ema`: the run's moving average (train.ema)",
    )
    add_config(parser)
    given, overrides = parser.parse_known_args(arguments)
    from launch.eval_recipe import recipe_words
    from launch.extract import run_extract
    from launch.pretrain import set_up_logging

    set_up_logging()
    averaged = given.weights == "ema"
    return run_extract(
        given.run,
        [*recipe_words(given.config), *overrides],
        given.out,
        splits=given.split,
        per_clip=given.per_clip,
        safetensors=given.safetensors,
        weights=None if averaged or given.weights is None else Path(given.weights),
        averaged=averaged,
    )
