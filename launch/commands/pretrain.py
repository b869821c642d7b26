"""`intravid pretrain`: train a method on shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from launch.commands._profile import add_profile, asked_profile
from launch.commands._resume import add_resume

EXAMPLE = """\
example:
  intravid pretrain configs/smoke/iic.yaml --data.root shards/ --run_dir runs/first --train.steps 50
  intravid pretrain configs/smoke/iic.yaml --data.root shards/ --run_dir runs/look --train.steps 100 --profile
  torchrun --nproc-per-node 8 -m launch pretrain configs/pretrain/iic_r3d_ucf101.yaml --data.root shards/

every key of the recipe can be overridden: --optim.lr 0.05 --method.backbone.width 32 --pipeline.backend dali;
--settings lists them all. The run folder is resumed from its newest checkpoint; another --run_dir starts anew.
Where a run begins, the first that applies: in a job that SLURM or torchrun has started again, its own newest
checkpoint; --resume; the newest checkpoint in the run folder; first weights. A damaged one is set aside with a warning
and the one before taken.
"""


def command_parser() -> argparse.ArgumentParser:
    """Of the recipe and the command's own options; what it does not know are overrides of the recipe."""
    parser = argparse.ArgumentParser(
        prog="intravid pretrain",
        description="Train a method: one process, under torchrun, or as a SLURM step; resumes by itself.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", type=Path, help="YAML file; a run folder's config.yaml is one, too")
    parser.add_argument(
        "--stop-after", type=float, default=0.0, metavar="SECONDS", help="save and stop after this long"
    )
    add_profile(parser)
    add_resume(parser)
    return parser


def main(arguments: list[str]) -> int:
    """Run the command."""
    if arguments == ["--settings"]:
        from launch.config import parser as settings_parser

        settings_parser().print_help()
        return 0
    given, overrides = command_parser().parse_known_args(arguments)
    from launch.config import load_run
    from launch.pretrain import pretrain

    return pretrain(
        load_run(given.recipe, overrides),
        stop_after_s=given.stop_after,
        profile=asked_profile(given),
        resume=given.resume,
        start_over=given.start_over,
    )
