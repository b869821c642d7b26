"""`intravid build`: videos to LMDB shards."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from launch.array import parse_with_task
from launch.names import read_classes, read_names

if TYPE_CHECKING:
    from data_process.transcode_config import FlowConfig

EXAMPLE = """\
example:
  intravid build videos/ shards/
  intravid build videos/ flow/ --modality flow
  intravid build k400/ shards/ --dataset kinetics --annotations kinetics400/ --short-side 256
  intravid build UCF-101/ shards/ --dataset ucf101 --annotations ucfTrainTestlist/ --fold 1
  intravid build list.csv shards/ --dataset list --short-side 128 --jobs 8
  sbatch --array=0-15 --wrap "intravid build videos/ shards/"    # or on any machines: --task 0 --tasks 16, ...
"""


def command_parser() -> argparse.ArgumentParser:
    """Of source, folder and options."""
    parser = argparse.ArgumentParser(
        prog="intravid build",
        description="Store videos as LMDB shards of JPEG frames. Shards that exist are kept: run the same command "
        "again to go on after a stop.",
        epilog=f"{EXAMPLE}\ndatasets:\n{_datasets()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="folder of videos (a class per sub-folder, or none), or a list")
    parser.add_argument("out", type=Path, help="folder for the shards")
    parser.add_argument("--dataset", default="folder", metavar="NAME", help="what the source is, see below (folder)")
    parser.add_argument(
        "--annotations", action="append", default=[], metavar="[SPLIT=]PATH", help="list, CSV or folder of lists"
    )
    parser.add_argument("--fold", type=int, default=1, help="of the official splits of UCF101 and HMDB51 (1)")
    parser.add_argument("--subset", type=Path, metavar="FILE", help="store only the videos with these ids, one a line")
    parser.add_argument("--split", default="train", help="split of videos whose source does not tell it (train)")
    parser.add_argument("--classes", type=Path, help="file of class names, one a line, in the order of the labels")
    parser.add_argument("--short-side", type=int, default=256, help="pixels; larger videos are scaled down (256)")
    parser.add_argument("--codec", choices=("jpeg", "mp4"), help="JPEGs, or H.264 for GPUs: a fifth of the size (jpeg)")
    parser.add_argument(
        "--quality", type=int, help="JPEG: q:v of ffmpeg, 2 is best (3); mp4: crf of x264 (21); flow: 1 to 100 (90)"
    )
    parser.add_argument("--modality", choices=("rgb", "flow"), default="rgb", help="frames, or optical flow (rgb)")
    parser.add_argument("--flow", help="algorithm of --modality flow: dis, dis-fast, farneback or tvl1 (dis)")
    parser.add_argument("--bound", type=float, help="pixels beyond which --modality flow cuts (20)")
    parser.add_argument("--min-frames", type=int, default=16, help="shorter videos are left out (16)")
    parser.add_argument("--strict", action="store_true", help="leave out videos that the decoder complained about, too")
    parser.add_argument(
        "--max-bad", type=float, default=0.01, help="share left out beyond which exit status is 1 (0.01)"
    )
    parser.add_argument("--retry-quarantined", action="store_true", help="rebuild shards that lost videos to time-outs")
    parser.add_argument("--videos-per-shard", type=int, help="64 for sets up to 4,096 videos, 512 beyond")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the videos (0)")
    parser.add_argument("--jobs", type=int, default=0, help="ffmpeg processes side by side (one a core)")
    parser.add_argument("--processes", type=int, default=0, help="writing processes (one for every 16 jobs)")
    parser.add_argument("--log-json", action="store_true", help="JSON lines on standard error, in the place of text")
    return parser


def _datasets() -> str:
    from data_process.source import adapter_summaries

    return "".join(f"  {name:<10} {text}\n" for name, text in adapter_summaries().items())


def main(arguments: list[str]) -> int:
    """Run the command."""
    given = parse_with_task(command_parser(), arguments)
    from data_process.build import build
    from data_process.build_config import BuildConfig
    from data_process.source import SourceRequest
    from data_process.transcode_config import TranscodeConfig

    config = BuildConfig(
        transcode=TranscodeConfig(
            short_side=given.short_side,
            codec="flow-jpeg" if given.modality == "flow" else given.codec or "jpeg",
            quality=given.quality,
            min_frames=given.min_frames,
            strict=given.strict,
            flow=_flow_config(given),
        ),
        videos_per_shard=given.videos_per_shard,
        seed=given.seed,
        jobs=given.jobs,
        processes=given.processes,
        log_json=given.log_json,
        task=given.task,
        tasks=given.tasks,
        max_bad=given.max_bad,
        retry_quarantined=given.retry_quarantined,
    )
    request = SourceRequest(
        given.source,
        split=given.split,
        annotations=tuple(map(_annotation, given.annotations)),
        fold=given.fold,
        classes=read_classes(given.classes),
    )
    summary = build(given.dataset, request, given.out, config, subset=read_names(given.subset, "--subset"))
    state = "indexed" if summary.complete else "other tasks have shards to build; the last one writes the index"
    print(f"{given.out}: {summary}; {state}")
    return 0


def _flow_config(given: argparse.Namespace) -> FlowConfig:
    """How flow is computed; options of the other modality would be without effect, so they are refused."""
    from data_process.errors import InputError
    from data_process.transcode_config import FlowConfig

    if given.modality == "flow":
        if given.codec is not None:
            raise InputError(f"--codec {given.codec} is a way of storing frames, flow has one of its own; leave it out")
    elif idle := [f"--{name} {value}" for name in ("flow", "bound") if (value := getattr(given, name)) is not None]:
        raise InputError(f"{' '.join(idle)} is about optical flow, but frames are built; add --modality flow")
    told = {"algorithm": given.flow, "bound": given.bound}
    return FlowConfig(**{name: value for name, value in told.items() if value is not None})


def _annotation(text: str) -> tuple[str | None, Path]:
    """`val=lists/val.csv` or a path alone."""
    from data_process.index import SPLITS

    split, sign, path = text.partition("=")
    return (split, Path(path)) if sign and split in SPLITS else (None, Path(text))
