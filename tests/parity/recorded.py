"""Recorded inputs and outputs of the original implementations: where they lie, and the recipe of their weights.

Files are looked for under $INTRAVID_VECTORS, else in `../shared/reference/vectors` beside the repository, else in
`tests/vectors`.
"""

import importlib
import inspect
import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.backbone import Backbone

_REPOSITORY = Path(__file__).parents[2]


def vectors_root() -> Path:
    """The folder with one sub-folder a method."""
    if "INTRAVID_VECTORS" in os.environ:
        return Path(os.environ["INTRAVID_VECTORS"])
    beside = _REPOSITORY.parent / "shared" / "reference" / "vectors"
    return beside if beside.is_dir() else _REPOSITORY / "tests" / "vectors"


def found(method: str, pattern: str = "*.npz") -> list[Path]:
    """Recorded files of a method, by name; an empty folder is an error of the set-up, not a pass."""
    paths = sorted((vectors_root() / method).glob(pattern))
    if not paths and not (vectors_root() / method).is_dir():
        raise FileNotFoundError(f"{vectors_root() / method} does not exist; INTRAVID_VECTORS names another folder")
    return paths


def load(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file."""
    with np.load(path) as arrays:
        return dict(arrays)


def outputs_of(method: str) -> list[dict[str, np.ndarray]]:
    """Recorded feature maps of DualVar's or CSTP's networks; a test skips without them."""
    paths = sorted((vectors_root() / method).glob("backbones*.npz"))
    if not paths:
        pytest.skip(f"backbones.npz of {method} was recorded elsewhere: INTRAVID_VECTORS names the folder")
    return [load(path) for path in paths]


def keys_of(method: str) -> dict[str, dict]:
    """What `keys.json` says of DualVar's or CSTP's networks, by name; a test skips without it."""
    path = vectors_root() / method / "keys.json"
    if not path.is_file():
        pytest.skip(f"keys.json of {method} was recorded elsewhere: INTRAVID_VECTORS names the folder")
    return json.loads(path.read_text(encoding="utf-8"))


def shapes_below(entries: list[tuple[str, list[int]]], prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Shapes by name of those entries whose name begins with a prefix, without it."""
    return {key.removeprefix(prefix): tuple(shape) for key, shape in entries if key.startswith(prefix)}


def near(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Fails unless all values are within 1e-4 of the largest, as the READMEs of DualVar and CSTP ask."""
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def name(path: Path) -> str:
    """Test id of a file."""
    return path.stem


def recorded_input(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """The clip that was fed to IIC's networks, (N, C, T, H, W) float32 in 0..1."""
    return torch.from_numpy(np.random.RandomState(seed).uniform(0, 1, size=shape).astype(np.float32))


def normal_input(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """The clip that was fed to the networks of VTDL, DualVar and CSTP, (N, C, T, H, W) float32."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def filled(key: str, shape: torch.Size) -> np.ndarray:
    """Value of a state entry under its original key, for IIC and VTDL (README, "Key-addressed initialisation")."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(tuple(shape), dtype=np.int64)
    rs = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith("running_var"):
        return rs.uniform(0.5, 1.5, size=shape).astype(np.float32)
    z = rs.standard_normal(size=shape)
    if key.endswith("running_mean"):
        z = 0.1 * z
    elif len(shape) >= 2:
        z = z * np.sqrt(2 / np.prod(shape[1:]))
    elif key.endswith("weight"):
        z = 1 + 0.1 * z
    else:
        z = 0.05 * z
    return z.astype(np.float32)


def filled_log_variance(key: str, shape: torch.Size) -> np.ndarray:
    """Value of a state entry under its original key, for DualVar and CSTP (README, "Deterministic fill")."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(tuple(shape), dtype=np.int64)
    n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape))
    if key.endswith("running_var"):
        value = np.exp(0.2 * n)
    elif len(shape) >= 2:
        value = n * np.sqrt(2 / np.prod(shape[1:]))
    elif key.endswith("weight"):
        value = 1 + 0.1 * n
    else:
        value = 0.1 * n
    return np.asarray(value, dtype=np.float32)


Fill = Callable[[str, torch.Size], np.ndarray]


def filled_as(key: str, module: nn.Module, fill: Fill = filled) -> nn.Module:
    """The module with the values that it was recorded with under its original name."""
    entries = module.state_dict().items()
    module.load_state_dict({entry: torch.from_numpy(fill(f"{key}.{entry}", value.shape)) for entry, value in entries})
    return module


def backbone_module(stem: str):
    """Module of `models.backbones` that a recorded name begins with, underscores apart; None where there is none."""
    files = {path.stem.replace("_", ""): path.stem for path in (_REPOSITORY / "models" / "backbones").glob("[!_]*.py")}
    words = stem.split("_")
    for count in range(len(words), 0, -1):
        if candidate := files.get("".join(words[:count])):
            return importlib.import_module(f"models.backbones.{candidate}")
    return None


def make_backbone(module, *, out_dim: int, state_keys: list[str], layout: str = "iic", fill: Fill = filled) -> Backbone:
    """The recorded network: size from its feature, depth from its keys, weights from the fill recipe."""
    kinds = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Backbone) and value.__module__ == module.__name__
    ]
    (kind,) = kinds
    settings = {}
    if "layers" in inspect.signature(kind).parameters:
        settings["layers"] = _layers(state_keys)
    backbone = kind(**settings)
    if backbone.out_dim != out_dim:
        backbone = kind(**settings, width=64 * out_dim // backbone.out_dim)
    original = module.LAYOUTS[layout]
    state = {key: torch.from_numpy(fill(original(key), value.shape)) for key, value in backbone.state_dict().items()}
    backbone.load_state_dict(state)
    return backbone


def _layers(state_keys: list[str]) -> tuple[int, ...]:
    """Blocks a stage, counted in original keys such as `conv3.blocks.0.conv1...` and `layer2.1.conv1...`."""
    counts = {}
    for key in state_keys:
        if match := re.match(r"conv([2-5])\.(block1|blocks\.(\d+))\.", key):
            stage, block = int(match[1]) - 1, 1 if match[2] == "block1" else int(match[3]) + 2
        elif match := re.match(r"layer([1-4])\.(\d+)\.", key):
            stage, block = int(match[1]), int(match[2]) + 1
        else:
            continue
        counts[stage] = max(counts.get(stage, 0), block)
    return tuple(counts[stage] for stage in (1, 2, 3, 4))
