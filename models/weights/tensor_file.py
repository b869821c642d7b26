"""Named tensors with one text beside them, as a safetensors file: no code in it, and checked when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from data_process.errors import InputError

_TEXT = "intravid"
"""Key of our text in the file's metadata."""


def is_tensor_file(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a JSON header, then that header."""
    with open(path, "rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and 0 < int.from_bytes(start[:8], "little") < path.stat().st_size


def read_text(path: Path) -> str | None:
    """Our text, without reading the tensors; None where the file is no safetensors file or has none."""
    from safetensors import SafetensorError, safe_open

    if not is_tensor_file(path):
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return (file.metadata() or {}).get(_TEXT)
    except SafetensorError:
        return None


def tensor_file_bytes(tensors: Mapping[str, Tensor], text: str) -> bytes:
    """The whole file; the same bytes for the same tensors and text."""
    from safetensors.torch import save

    return save({name: one.detach().cpu().contiguous() for name, one in tensors.items()}, metadata={_TEXT: text})


def read_tensor_file(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """All tensors, and our text where the file has one.

    Raises:
        InputError: if the file is missing, cut off, or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(_TEXT)
            return {name: file.get_tensor(name) for name in file.keys()}, text  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, RuntimeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}); give another file") from None


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Digest of names, shapes, types and bytes, in the order of the names."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        one = tensors[name].detach().cpu().contiguous()
        state.update(f"{name} {one.dtype} {tuple(one.shape)}\n".encode())
        state.update(one.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()
