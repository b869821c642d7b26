"""Which of the shipped networks a file holds, told by the names of its entries and their shapes."""

from __future__ import annotations

from typing import Any

import torch

from data_process.errors import InputError
from models.weights.architecture import find_kind, shipped
from models.weights.search import search


def recognised(content: Any) -> list[str]:
    """Backbones that the content of a file is whole of in their default settings; else those whose names it has.

    Args:
        content: from `models.weights.foreign_file.read_foreign`.
    """
    matches = {}
    for name in shipped():
        with torch.device("meta"):  # names and shapes alone: no numbers are drawn
            backbone = find_kind(name)()
        try:
            matches[name] = search(content, backbone)
        except InputError:
            continue
    whole = [name for name, match in matches.items() if match.is_whole]
    return whole or [name for name, match in matches.items() if not (match.missing or match.unexpected)]


def hint(content: Any) -> str:
    """A sentence about what the file is recognised as, with a space before it; empty where it is not."""
    names = recognised(content)
    return f" Its names are those of --backbone {' or '.join(names)}." if names else ""
