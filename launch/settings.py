"""Names of all settings of a run, so that a wrong one is told by its full name, with the nearest that is known."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import SequenceMatcher
from importlib import import_module
from typing import Any, get_args, get_origin, get_type_hints

from data_process.errors import InputError

_NEAR = 0.6
"""Least likeness (0 to 1) of a name that is proposed."""


def merged(recipe: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The recipe as nested dictionaries with overrides (``--a.b=1``, ``--a.b 1``) on top.

    What a class is given stands beside its ``class_path``, as on the command line, rather than below ``init_args``.
    """
    result = _plain(recipe)
    words = list(overrides)
    for number, word in enumerate(words):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        if not equals and number + 1 < len(words):
            value = words[number + 1]
        path = [part for part in name.rstrip("+").split(".") if part != "init_args"]
        _put(result, path, value)
    return result


def of_section(overrides: Sequence[str], section: str, *, without: Sequence[str] = ()) -> list[str]:
    """Those words of overrides that set something of a section, such as ``eval``; some of its settings left out."""
    found, words = [], list(overrides)
    for number, word in enumerate(words):
        name, equals, _ = word.partition("=")
        first, _, rest = name.removeprefix("--").partition(".")
        if word.startswith("--") and first == section and rest not in without:
            found += [word] if equals else words[number : number + 2]
    return found


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, entry in value.items():
        if name == "init_args" and isinstance(entry, Mapping):
            result |= _plain(entry)
        else:
            result[str(name)] = _plain(entry) if isinstance(entry, Mapping) else entry
    return result


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for name in parents:
        below = tree.get(name)
        if not isinstance(below, dict):
            below = tree[name] = {"class_path": below} if isinstance(below, str) else {}
        tree = below
    if last == "class_path":
        tree.clear()  # of another class; jsonargparse keeps what still fits and drops the rest
    tree[last] = value


def refuse_unknown(config: type, given: Mapping[str, Any]) -> None:
    """Check the names in `given` (from `merged`) against a dataclass and the classes that `given` names.

    Raises:
        InputError: for a name that is no setting, or a class that cannot be imported.
    """
    for path in _unknown(config, given, ()):
        wrong = ".".join(path)
        near = _nearest(wrong, [".".join(one) for one in _known(config, given, ())])
        raise InputError(f"{wrong} is not a setting{f'; did you mean {near}?' if near else ''}")


def _unknown(kind: Any, given: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    names = _settings(kind, given, path)
    if names is None:
        return
    for name, value in given.items():
        if name == "class_path" and not is_dataclass(kind):
            continue
        if name not in names:
            yield (*path, name, *_first_leaf(value))
        elif isinstance(value, Mapping):
            yield from _unknown(names[name], value, (*path, name))


def _first_leaf(value: Any) -> tuple[str, ...]:
    if not isinstance(value, Mapping) or not value:
        return ()
    name, below = next(iter(value.items()))
    return (name, *_first_leaf(below))


def _known(kind: Any, given: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Full names of everything that can be set, below the classes that `given` names too."""
    if path:
        yield path
    below = given if isinstance(given, Mapping) else {}
    for name, annotation in (_settings(kind, below, path) or {}).items():
        yield from _known(annotation, below.get(name), (*path, name))


def _settings(kind: Any, given: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    """Name to annotation of what stands directly below a setting; None where that cannot be known from here."""
    for option in (kind, *get_args(kind)):
        if inspect.isclass(option) and is_dataclass(option):
            return get_type_hints(option)
    if not isinstance(given.get("class_path"), str):
        return None
    made = _import(given["class_path"], (*path, "class_path"))
    parameters = list(inspect.signature(made).parameters.values())
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    hints = get_type_hints(made.__init__) if inspect.isclass(made) else get_type_hints(made)
    return {parameter.name: hints.get(parameter.name, Any) for parameter in parameters[_supplied(kind) :]}


def _supplied(kind: Any) -> int:
    """How many leading arguments a callable's caller brings: those are no settings."""
    arguments = get_args(kind)
    is_callable = get_origin(kind) is not None and len(arguments) == 2 and isinstance(arguments[0], list)
    return len(arguments[0]) if is_callable else 0


def _import(class_path: str, path: tuple[str, ...]) -> Any:
    module_name, _, name = class_path.rpartition(".")
    try:
        module = import_module(module_name)
    except (ImportError, ValueError) as error:
        raise InputError(f"{'.'.join(path)}: cannot import {module_name or class_path!r} ({error})") from None
    if not hasattr(module, name):
        near = _nearest(name, [other for other in vars(module) if not other.startswith("_")])
        hint = f"; did you mean {module_name}.{near}?" if near else ""
        raise InputError(f"{'.'.join(path)}: {module_name} defines no {name}{hint}")
    return getattr(module, name)


def _nearest(wrong: str, names: Sequence[str]) -> str:
    """The name that looks most alike, whole or in its last part; empty where none does."""

    def likeness(name: str) -> float:
        last = SequenceMatcher(None, wrong.rpartition(".")[2], name.rpartition(".")[2]).ratio()
        whole = SequenceMatcher(None, wrong, name).ratio()
        return max(whole, last - 0.1)

    best = max(names, key=likeness, default="")
    return best if best and likeness(best) >= _NEAR else ""
