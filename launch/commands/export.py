"""`intravid export`: the backbone of a run as safetensors with a card."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """\
example:
  intravid export runs/iic weights/r3d.safetensors                # the newest checkpoint; the card is weights/r3d.json
  intravid export runs/iic weights/r3d.safetensors --step 4000 --torch-export
  intravid export weights/r3d.safetensors weights/r3d-iic.safetensors --layout iic
"""


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="intravid export",
        description="Write the backbone alone, without heads and banks: safetensors, whose names are ours or those of "
        "a published layout. The card (network, settings, clips, origin) is in the file, and beside it as JSON.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="run folder, step-*.pt file of one, or an exported file")
    parser.add_argument("out", type=Path, help="file to write, NAME.safetensors")
    parser.add_argument(
        "--weights", choices=("trained", "ema"), default="trained", help="of a run: as trained, or their moving average"
    )
    parser.add_argument("--step", type=int, metavar="N", help="of a run folder (the newest checkpoint)")
    parser.add_argument(
        "--layout", default="intravid", help="names of the entries: intravid (default), torchvision, iic, ..."
    )
    parser.add_argument(
        "--torch-export",
        action="store_true",
        help="write NAME.pt2 too, a program of torch.export from clips to feature maps that runs without intravid",
    )
    parser.add_argument(
        "--trust", action="store_true", help="build a class outside of intravid that an exported file names"
    )
    given = parser.parse_args(arguments)
    from launch.weights import open_weights, out_path, write_program, write_weights

    out = out_path(given.out)  # before anything is read
    weights = open_weights(given.source, step=given.step, averaged=given.weights == "ema", trust=given.trust)
    card, written = write_weights(out, weights, given.layout)
    if given.torch_export:
        written.append(write_program(out, weights))
    print(f"{card.class_path}, {card.num_parameters:,} parameters, names of layout {card.layout}")
    for path in written:
        print(path)
    return 0
