"""What a file of weights holds: read without running code that it brings along, unless its user trusts it."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_process.errors import InputError
from models.weights.tensor_file import is_tensor_file, read_tensor_file

StateDict = Mapping[str, Tensor]

_DEPTH = 2
"""How deep state dicts are looked for in a file: ``{"model": {...}}``, ``{"state": {"model": {...}}}``."""


def read_foreign(path: Path, *, trust: bool = False) -> Any:
    """Everything in a file that torch or safetensors wrote, tensors on the CPU.

    Args:
        path: the file; old (before torch 1.6) and new formats of torch are read.
        trust: let the file run code of its own while it is read.

    Raises:
        InputError: if it is missing, damaged, of another kind, or holds objects whose reading would run code.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected weights as torch.save or safetensors write them")
    if is_tensor_file(path):
        return read_tensor_file(path)[0]
    _refuse_damaged(path)
    try:
        with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # of files that are refused below
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except (pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, ImportError, LookupError) as error:
        raise InputError(_unreadable(path, error)) from None
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(_unreadable(path, error)) from None


def state_dicts(content: Any) -> Iterator[tuple[str, StateDict]]:
    """All state dicts in a file's content with the names of the entries that hold them, '' for the whole file."""
    yield from _state_dicts(content, (), _DEPTH)


def _state_dicts(value: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[str, StateDict]]:
    if isinstance(value, nn.Module):
        value = value.state_dict()
    if not isinstance(value, Mapping):
        return
    tensors = {name: one.detach() for name, one in value.items() if isinstance(name, str) and isinstance(one, Tensor)}
    if tensors:
        yield ".".join(path), tensors
    if depth:
        for name, below in value.items():
            if isinstance(name, str):
                yield from _state_dicts(below, (*path, name), depth - 1)


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    return state.hexdigest()


def _harmless() -> list[Any]:
    """What training programs save beside tensors and what cannot do harm: parsed options, and numbers of numpy.

    IIC and VTDL save their argparse.Namespace, others the best accuracy as a number of numpy.
    """
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(one)) for one in ("f8", "f4", "i8", "i4", "?")]
    names = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]  # before numpy 2, and since
    return [argparse.Namespace, np.dtype, *dtypes, *((scalar, name) for name in names)]


def _refuse_damaged(path: Path) -> None:
    # torch.load checks no sums: a flipped bit in a weight would load in silence.
    if not zipfile.is_zipfile(path):
        return  # the old format, which has none
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise InputError(f"{path} is damaged ({error}); give another copy") from None
    if broken:
        raise InputError(f"{path} is damaged: the checksum of its part {broken} is wrong; give another copy")


def _unreadable(path: Path, error: Exception) -> str:
    if found := re.search(r"GLOBAL (\S+) was not an allowed", str(error)):
        return (
            f"{path} holds objects besides weights ({found[1]}), and reading those may run code that the file brings "
            "along; only if you trust where it comes from, read it with --trust (trust=True in Python)"
        )
    what = (str(error).splitlines() or [""])[0][:200]
    return (
        f"{path} is not what torch.save or safetensors write, or it was cut off ({type(error).__name__}: {what}); "
        "give another file"
    )
