"""`intravid test`: accuracy of a trained classifier, several clips a video."""

from __future__ import annotations

import argparse
from pathlib import Path

from launch.commands._config import add_config

EXAMPLE = """\
example:
  intravid test runs/supervised                                   # 10 clips, centre crop, mean of logits
  intravid test runs/supervised --eval.crops 3 --eval.average probabilities --controls
  intravid test runs/supervised/checkpoints/best --config configs/eval/test_dualvar.yaml
  intravid test runs/supervised --config configs/eval/test_cstp.yaml --data.root shards/hmdb51
"""


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="intravid test",
        description="Judge a trained classifier on the eval.query split: eval.num_clips clips of every video and "
        "eval.crops crops of each, whose logits or probabilities (eval.average) are averaged. Prints top 1, top 5 and "
        "the mean over classes; these and the confusion go to eval-test.json in the run folder.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="run folder, or checkpoint of one, of a classifier")
    parser.add_argument(
        "--weights",
        choices=("trained", "ema"),
        default="trained",
        help="as trained (default), or the run's moving average (train.ema)",
    )
    parser.add_argument("--controls", action="store_true", help="add a row for one repeated frame, six clips a video")
    add_config(parser)
    given, overrides = parser.parse_known_args(arguments)
    from launch.classify import run_test
    from launch.eval_recipe import recipe_words
    from launch.pretrain import set_up_logging

    set_up_logging()
    words = [*recipe_words(given.config), *overrides]
    return run_test(given.run, words, one_frame=given.controls, averaged=given.weights == "ema")
