"""The network that weights belong to: its class, settings and the published names of its entries."""

from __future__ import annotations

import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import torch

import models.backbones
from data_process.errors import InputError
from models.backbone import Backbone

Naming = Callable[[str], str]
"""From a key of our state dict to the name of that entry in a layout."""

OWN_LAYOUT = "intravid"
"""Our own names."""


def find_kind(name: str, *, trust: bool = True) -> type[Backbone]:
    """The class of a backbone by its file's name (``r3d``) or its full path (``models.backbones.r3d.R3D``).

    Args:
        name: what to look for.
        trust: import modules outside of `models.backbones` too; importing runs them, so a name that comes out of a
            file is not to be trusted. What the program has imported already needs none.

    Raises:
        InputError: where there is none.
    """
    own = shipped()
    if "." not in name:
        if name not in own:
            near = get_close_matches(name, own, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(own)}"
            raise InputError(f"there is no backbone {name!r}; {hint} Others are named by their class path")
        return _only_kind(f"{models.backbones.__name__}.{name}")
    module_name, _, class_name = name.rpartition(".")
    ours = module_name in {f"{models.backbones.__name__}.{one}" for one in own}
    if not (trust or ours or module_name in sys.modules):
        raise InputError(
            f"the weights are of {name}, which is not a part of intravid: to build it its module must be run. If you "
            "trust the file and the module, say so (--trust, or trust=True in Python), or import the module before"
        )
    try:
        module = import_module(module_name)
    except (ImportError, ValueError) as error:
        raise InputError(f"the backbone {name}: cannot import {module_name!r} ({error})") from None
    kind = getattr(module, class_name, None)
    if not (inspect.isclass(kind) and issubclass(kind, Backbone)):
        raise InputError(f"the backbone {name}: {module_name} defines no subclass of models.backbone.Backbone so named")
    return kind


def class_path(kind: type[Backbone]) -> str:
    """Full path of a class, as recipes name it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def full_settings(kind: type[Backbone], given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a class: what is given, and the defaults of the rest.

    Raises:
        InputError: for a setting that the class does not have, or that it needs and is not given.
    """
    parameters = inspect.signature(kind).parameters
    for name in given:
        if name not in parameters:
            near = get_close_matches(name, parameters, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(parameters) or 'none'}"
            raise InputError(f"{name} is not a setting of {class_path(kind)}; {hint}")
    defaults = {name: one.default for name, one in parameters.items() if one.default is not one.empty}
    if absent := [name for name in parameters if name not in defaults and name not in given]:
        raise InputError(f"{class_path(kind)} needs the settings {', '.join(absent)}; give them")
    return defaults | dict(given)


def build(kind: type[Backbone], settings: Mapping[str, Any]) -> Backbone:
    """A backbone with first weights that depend on nothing but its settings; the global generator stays as it is.

    Raises:
        InputError: for settings that the class refuses.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return kind(**full_settings(kind, settings))
        except (ValueError, TypeError) as error:
            raise InputError(f"{class_path(kind)}: {' '.join(str(error).split())}") from None


def layouts(kind: type[Backbone]) -> dict[str, Naming]:
    """All layouts that a backbone's module knows, our own first."""
    return {OWN_LAYOUT: str, **getattr(sys.modules[kind.__module__], "LAYOUTS", {})}


def naming(kind: type[Backbone], layout: str) -> Naming:
    """The names of one layout.

    Raises:
        InputError: where the backbone was not published in it.
    """
    known = layouts(kind)
    if layout not in known:
        raise InputError(f"{class_path(kind)} has no layout {layout!r}; it has {', '.join(known)}")
    return known[layout]


def layout_settings(kind: type[Backbone], layout: str) -> dict[str, Any]:
    """Settings that networks of a layout have instead of the defaults; other ones would give other features."""
    return dict(getattr(sys.modules[kind.__module__], "LAYOUT_SETTINGS", {}).get(layout, {}))


def shipped() -> list[str]:
    """Names of all backbones of intravid, which are those of their files."""
    return [one.name for one in pkgutil.iter_modules(models.backbones.__path__) if not one.name.startswith("_")]


def _only_kind(module_name: str) -> type[Backbone]:
    kinds = [
        value
        for value in vars(import_module(module_name)).values()
        if inspect.isclass(value) and issubclass(value, Backbone) and value.__module__ == module_name
    ]
    assert len(kinds) == 1, f"{module_name} must define exactly one backbone, not {kinds}"
    return kinds[0]
