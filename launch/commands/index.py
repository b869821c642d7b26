"""`intravid index`: write the index of a folder of shards."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="intravid index",
        description="Write index.npy, index.json and ids.bin from the shards alone, and quarantine.jsonl from their "
        "reports; `build` does it at its end.",
        epilog="example:\n  intravid index shards/\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, help="folder of shards")
    given = parser.parse_args(arguments)
    from data_process.index import write_index
    from data_process.quarantine import merge_reports

    index = write_index(given.root)
    merge_reports(given.root)
    print(f"{given.root}: {len(index.rows)} videos in {len(index.shards)} shards, splits {', '.join(index.splits)}")
    return 0
