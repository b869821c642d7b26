"""What `retrieve`, `knn` and `linear` share: a run or recipe, overrides, controls."""

from __future__ import annotations

import argparse
from pathlib import Path

from launch.commands._config import add_config

EXAMPLE = """\
example:
  intravid {name} runs/iic --controls
  intravid {name} runs/iic --data.root shards/ucf101 --eval.num_clips 10 --eval.feature conv
  intravid {name} runs/iic --config configs/eval/retrieve_iic.yaml --merge residual
  intravid {name} configs/smoke/iic.yaml --data.root shards/ --weights weights/r3d.safetensors
"""


def run(name: str, does: str, arguments: list[str], *, one_frame: bool = True) -> int:
    """Parse the command line of one measure and run it; `one_frame` adds that control unless it is asked not to."""
    parser = argparse.ArgumentParser(
        prog=f"intravid {name}",
        description=f"Judge a backbone by {does}, on the eval.query split against the eval.gallery split.",
        epilog=EXAMPLE.format(name=name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="run folder, checkpoint, or recipe (then: random weights)")
    parser.add_argument("--controls", action="store_true", help="add rows for one repeated frame and a random network")
    if one_frame:
        parser.add_argument(
            "--no-one-frame",
            action="store_true",
            help="leave out the row for one repeated frame, which takes six clips",
        )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="judge this file of `intravid export` or `import` instead; `ema`: the run's moving average (train.ema)",
    )
    parser.add_argument(
        "--merge",
        default="",
        metavar="MODALITY|RUN",
        help="put the features of a second look behind the first ones: the same network on another modality (residual, "
        "flow-u, flow-v, rgb; IIC's joint retrieval), or another run, checkpoint or recipe with its own eval settings",
    )
    add_config(parser)
    given, overrides = parser.parse_known_args(arguments)
    from launch.eval_recipe import recipe_words
    from launch.evaluate import run_measures
    from launch.pretrain import set_up_logging

    set_up_logging()
    averaged = given.weights == "ema"
    return run_measures(
        given.run,
        [*recipe_words(given.config), *overrides],
        measures=(name,),
        one_frame=given.controls or (one_frame and not given.no_one_frame),
        random=given.controls,
        weights=None if averaged or given.weights is None else Path(given.weights),
        averaged=averaged,
        merge=given.merge,
    )
