"""`intravid finetune`: train a classifier on a pretrained backbone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.commands._profile import add_profile, asked_profile
from launch.commands._resume import add_resume

if TYPE_CHECKING:
    from launch.config import LoadedRun

DESCRIPTION = """\
Train a classifier on a backbone that begins with the weights of a run (its newest checkpoint), a checkpoint or an
exported file: one process, under torchrun, or as a SLURM step; resumes by itself, like `intravid pretrain`. A tenth of
every class of the training list is held out, and the model that is right about most of it is kept as checkpoints/best.
"""
EXAMPLE = """\
example:
  intravid finetune configs/eval/finetune_iic_r3d_ucf101.yaml --weights runs/iic --data.root shards/ucf101 \\
      --run_dir runs/iic_finetuned
  intravid test runs/iic_finetuned/checkpoints/best
  intravid finetune configs/motion/finetune.yaml --weights runs/iic --label-fraction 0.1 --run_dir runs/few
  intravid finetune configs/motion/finetune.yaml --weights none --label-fraction 0.1 --run_dir runs/scratch
  intravid submit finetune configs/eval/finetune_iic_r3d_ucf101.yaml --weights runs/iic --run_dir runs/iic_finetuned

every key of the recipe can be overridden: --optim.lr 0.01 --method.frozen true --train.epochs 20; --settings lists all.
--select says what the best model is chosen on: held-out (default), val (the dataset's own split), legacy (the test
split, as the originals do) or none (the last model is meant). The weights are read when a run begins; one that goes on
has them in its checkpoints.
"""
_SELECT = {
    "held-out": ["--validate.source=held_out"],
    "val": ["--validate.source=val", "--data.held_out=0"],
    "legacy": ["--validate.source=legacy", "--data.held_out=0"],
    "none": ["--validate.source=none", "--data.held_out=0", "--train.keep_best="],
}
_HELD_OUT = "0.1"


def command_parser() -> argparse.ArgumentParser:
    """Of the recipe and the command's own options; what it does not know are overrides of the recipe."""
    parser = argparse.ArgumentParser(
        prog="intravid finetune",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", type=Path, help="YAML file; a run folder's config.yaml is one, too")
    parser.add_argument(
        "--weights", metavar="WEIGHTS", help="run folder, checkpoint, exported file, or none: from scratch"
    )
    parser.add_argument(
        "--weights-averaged", action="store_true", help="the moving average of that run's weights (train.ema)"
    )
    parser.add_argument(
        "--label-fraction",
        type=float,
        metavar="SHARE",
        help="use the labels of a share of every class alone, at least of one video; the held-out part is of these",
    )
    parser.add_argument("--select", choices=_SELECT, help="what the best model is chosen on (held-out)")
    parser.add_argument(
        "--stop-after", type=float, default=0.0, metavar="SECONDS", help="save and stop after this long"
    )
    add_profile(parser)
    add_resume(parser)
    return parser


def run_overrides(given: argparse.Namespace, rest: list[str]) -> list[str]:
    """Overrides of the recipe: what neither it nor the command line says, then the words, then the command's options.

    Raises:
        InputError: where nothing says which weights.
    """
    from data_process.errors import InputError

    said = _settings(given.recipe, rest)
    source = (given.select or _at(said, "validate.source") or "held_out").replace("-", "_")
    defaults = {"validate.source": source}
    if source == "held_out":
        defaults["data.held_out"] = _HELD_OUT
    if source != "none":
        defaults["train.keep_best"] = "eval/val_accuracy"
    words = [f"--{name}={value}" for name, value in defaults.items() if not _at(said, name)]
    words += rest
    words += _SELECT[given.select] if given.select else []
    words += [f"--finetune.weights={given.weights}"] if given.weights else []
    words += ["--finetune.averaged=true"] if given.weights_averaged else []
    words += [f"--data.label_fraction={given.label_fraction}"] if given.label_fraction is not None else []
    if not given.weights and not _at(said, "finetune.weights"):
        raise InputError(
            "finetune needs weights to begin with: --weights RUN (a run folder, a checkpoint, or a file of `intravid "
            "export` or `import`), or --weights none to train from scratch"
        )
    return words


def _settings(recipe: Path, rest: list[str]) -> dict[str, Any]:
    from launch.config import read_recipe
    from launch.settings import merged

    return merged(read_recipe(recipe), rest)


def _at(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings


def main(arguments: list[str]) -> int:
    """Run the command."""
    if arguments == ["--settings"]:
        from launch.config import parser as settings_parser

        settings_parser().print_help()
        return 0
    given, rest = command_parser().parse_known_args(arguments)
    from launch.pretrain import pretrain

    loaded = _loaded(given, rest)
    status = pretrain(
        loaded,
        stop_after_s=given.stop_after,
        profile=asked_profile(given),
        resume=given.resume,
        start_over=given.start_over,
    )
    if status == 0:
        _tell_best(Path(loaded.config.run_dir))
    return status


def _tell_best(run_dir: Path) -> None:
    import logging
    import os

    from engine.checkpoint import latest_checkpoint, read_checkpoint

    best = run_dir / "checkpoints" / "best"
    if os.environ.get("RANK", "0") == "0" and best.is_file() and (path := latest_checkpoint(best)) != best:
        state = read_checkpoint(path)
        logging.getLogger(__name__).info(
            "best so far: step %d, %s %.4g; intravid test %s judges it",
            state.step, state.best.get("measure"), state.best.get("value"), best,
        )  # fmt: skip


def _loaded(given: argparse.Namespace, rest: list[str]) -> LoadedRun:
    """The run, its clips normalised as those that the weights were trained on where nothing else is said."""
    import os

    from engine.resume import Resume
    from launch.config import load_run
    from launch.env import was_started_again
    from launch.initial_weights import begins, input_of

    overrides = run_overrides(given, rest)
    loaded = load_run(given.recipe, overrides)
    config = loaded.config
    method = loaded.plain["method"].get("init_args", {})
    resume = Resume(given.resume, start_over=given.start_over, restarted=was_started_again(os.environ))
    if "mean" not in method or method["mean"] or method.get("std"):
        return loaded
    run_dir = Path(config.run_dir)
    found = input_of(config.finetune, run_dir, begins=begins(resume, run_dir))
    if found is None:
        return loaded
    mean, std = found
    return load_run(given.recipe, [*overrides, f"--method.mean={mean}", f"--method.std={std}"])
