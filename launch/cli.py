"""The `intravid` command: finds the sub-command, turns errors into one paragraph and an exit status."""

from __future__ import annotations

import os
import sys
import textwrap
from importlib import import_module

COMMANDS = {
    "demo": "motion videos, shards, pretraining with a stop and a resume, evaluation, report",
    "synth": "write a labelled motion dataset of real MP4 files",
    "build": "videos to LMDB shards",
    "index": "write the index of a folder of shards",
    "verify": "check shards, from sizes (level 0) to decoded frames (level 4)",
    "repack": "a dataset into other shards, or a part of it, without encoding",
    "stage": "a checked copy of a dataset on a disk of this machine",
    "import-lmdb": "databases of CoCLR and CSTP to shards, without encoding",
    "inspect": "contact sheet of videos or of what a run sees; what a network costs",
    "pretrain": "train a method on shards: one process, torchrun or SLURM",
    "finetune": "train a classifier on pretrained weights, or from scratch",
    "retrieve": "video retrieval with a trained backbone",
    "knn": "k-nearest-neighbour classification with a trained backbone",
    "linear": "linear probe of a trained backbone",
    "test": "accuracy of a trained classifier, several clips a video",
    "extract": "features of videos and clips as arrays",
    "report": "one HTML page about runs: curves, tables, what the network sees",
    "import": "weights of other programs to a file of ours, with a report",
    "export": "the backbone of a run as safetensors with a card",
    "bench": "the speed of each stage, side by side with peers",
    "submit": "run other commands as SLURM jobs, requeued until done",
    "jobs": "how the submitted jobs of a run stand: state, step, speed, log",
    "cancel": "end the submitted jobs of a run for good",
}
"""Sub-command to one line of help; each is a module of `launch.commands` with `main(arguments)`."""


def usage() -> str:
    """The text of `intravid --help`."""
    rows = "\n".join(f"  {name:<12} {text}" for name, text in COMMANDS.items())
    return textwrap.dedent("""\
        usage: intravid COMMAND [options]

        From a folder of videos to a pretrained, evaluated backbone.

        {rows}

        intravid COMMAND --help    options and an example
        intravid --version

        example:
          intravid build videos/ shards/ && intravid pretrain configs/smoke/iic.yaml --data.root shards/
        """).format(rows=rows)


def main(arguments: list[str] | None = None) -> int:
    """Run one sub-command; 0 for success, 1 for a failed run, 2 for wrong input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"intravid {version('intravid')}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        return _stop(2, f"unknown command {name!r}{_nearest(name)}; intravid --help lists the commands")
    from data_process.errors import InputError, RunError

    # Read by the OpenMP runtime when torch is imported. Its default, threads that spin while they wait, makes a
    # training step a hundred times slower as soon as another process uses one of the cores (measured: 4.5 s, 0.05 s).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return import_module(f"launch.commands.{name.replace('-', '_')}").main(rest) or 0
    except InputError as error:
        return _stop(2, str(error))
    except RunError as error:
        return _stop(1, str(error))
    except KeyboardInterrupt:
        return _stop(130, "interrupted")


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _stop(status: int, text: str) -> int:
    print(f"intravid: error: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
