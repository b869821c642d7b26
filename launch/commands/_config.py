"""The option of the commands that evaluate: a recipe of settings."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``; `launch.eval_recipe.recipe_words` reads it."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="RECIPE",
        help="settings of evaluation, such as configs/eval/retrieve_iic.yaml; those on the command line win",
    )
