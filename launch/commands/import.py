"""`intravid import`: weights of other programs to a file of ours, with a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.weights.card import ClipInput
    from models.weights.exported import Weights

DESCRIPTION = """\
Find a backbone in a file of weights, under the names of its published layouts and behind whatever prefix its program
put before them, and write it as `intravid export` does. What was matched, missing, unexpected and mis-shaped is
reported; less than a whole backbone is refused. Heads, queues and momentum copies are left out.
"""
EXAMPLE = """\
example:
  intravid import r3d_res_repeat_cl.pth weights/r3d.safetensors --backbone r3d                        # IIC
  intravid import epoch189.pth.tar weights/r21d.safetensors --backbone r21d --frames 16 --size 112    # DualVar
  intravid import r3d_18.pth weights/r3d_18.safetensors --backbone r3d_18 --layout torchvision
  intravid import save_300.pth weights/r3d34.safetensors --backbone resnet3d --set layers=[3,4,6,3]   # CSTP, depth 34
  intravid import ckpt_epoch_48.pth weights/ema.safetensors --backbone i3d --entry model_ema          # VTDL
"""


def main(arguments: list[str]) -> int:
    """Run the command."""
    given = _parser().parse_args(arguments)
    from launch.weights import out_path, write_weights

    out = out_path(given.out)  # before anything is read
    weights = _own(given) if given.backbone is None else _foreign(given)
    card, written = write_weights(out, weights)
    print(f"{card.class_path}, {card.num_parameters:,} parameters")
    for path in written:
        print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intravid import",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="what torch.save or safetensors wrote; or a run folder of ours")
    parser.add_argument("out", type=Path, help="file to write, NAME.safetensors")
    parser.add_argument("--backbone", metavar="NAME", help="r3d, or a class path; files of ours tell it themselves")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="its settings")
    parser.add_argument(
        "--layout",
        default="auto",
        help="whose names: iic, vtdl, dualvar, cstp, coclr, torchvision or intravid, as far as the backbone has them "
        "(auto: whichever fits)",
    )
    parser.add_argument(
        "--entry", metavar="NAME", help="of the file's dictionary, such as model_ema (the one that fits)"
    )
    parser.add_argument("--prefix", metavar="TEXT", help="before the names, such as encoder_k.0 (the one that fits)")
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="take what fits; the rest keeps first weights, and the card says so",
    )
    parser.add_argument(
        "--trust", action="store_true", help="let the file run code of its own while it is read; off by default"
    )
    clips = parser.add_argument_group("clips that the weights were trained on, for the card (not known by default)")
    clips.add_argument("--frames", type=int, metavar="T", help="frames of a clip")
    clips.add_argument("--size", type=int, metavar="S", help="height and width, pixels")
    clips.add_argument("--mean", type=float, nargs=3, metavar="M", help="per channel, of values in [0, 1] (0 0 0)")
    clips.add_argument("--std", type=float, nargs=3, metavar="D", help="per channel (1 1 1)")
    return parser


def _own(given: argparse.Namespace) -> Weights:
    """A run, checkpoint or exported file, which tells its network."""
    from data_process.errors import InputError
    from launch.weights import open_weights

    needless = [f"--{name}" for name in ("set", "entry", "prefix", "frames", "size") if getattr(given, name)]
    if needless:
        raise InputError(
            f"{', '.join(needless)} go with --backbone, which names the network of a file that is not ours"
        )
    _refuse_foreign(given.file)
    return open_weights(given.file, trust=given.trust)


def _refuse_foreign(path: Path) -> None:
    from data_process.errors import InputError
    from engine.checkpoint import is_checkpoint
    from models.weights.exported import is_exported
    from models.weights.foreign_file import read_foreign
    from models.weights.recognise import hint

    if path.is_dir() or is_exported(path):
        return
    content = read_foreign(path)
    if not is_checkpoint(content):
        raise InputError(f"{path} is not a file of intravid, so --backbone must name its network.{hint(content)}")


def _foreign(given: argparse.Namespace) -> Weights:
    """Weights of another program; the report goes to standard error."""
    from launch.weights import read_settings
    from models.weights.architecture import find_kind
    from models.weights.imported import find_backbone, take
    from models.weights.report import report

    clips = _clips(given)
    kind = find_kind(given.backbone)
    settings = read_settings(kind, given.set)
    found = find_backbone(
        given.file, kind, settings, layout=given.layout, entry=given.entry, prefix=given.prefix, trust=given.trust
    )
    print(report(found.match, given.file), file=sys.stderr, flush=True)
    return take(found, clips=clips, allow_partial=given.allow_partial)


def _clips(given: argparse.Namespace) -> ClipInput | None:
    from data_process.errors import InputError
    from models.weights.card import ClipInput

    if given.frames is None and given.size is None:
        if given.mean or given.std:
            raise InputError("--mean and --std go with --frames and --size; give these too")
        return None
    if given.frames is None or given.size is None:
        raise InputError("--frames and --size tell the clips of training together; give both or neither")
    mean: Any = tuple(given.mean or (0.0, 0.0, 0.0))
    std: Any = tuple(given.std or (1.0, 1.0, 1.0))
    return ClipInput(given.frames, given.size, mean, std)
