"""Where in a file a backbone is: every layout, dictionary entry and prefix is tried, and what fits is taken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from data_process.errors import InputError
from models.backbone import Backbone
from models.weights.architecture import Naming, class_path, layouts, naming
from models.weights.foreign_file import StateDict, state_dicts
from models.weights.match import Match, Place, find_prefixes, match_at

_FOLLOWERS = re.compile(r"(^|[._])(ema|k|target|teacher|momentum|sampler|averaged)([._]|$)")
"""In an entry or prefix of a network that follows the trained one (CSTP's ``target_net``, MoCo's ``encoder_k``, VTDL's
``model_ema``) or was trained before (CoCLR's ``sampler``): taken only where it is asked for, or alone there."""

AUTO = "auto"
"""As a layout: whichever fits."""


def search(
    content: Any,
    backbone: Backbone,
    *,
    layout: str = AUTO,
    entry: str | None = None,
    prefix: str | None = None,
) -> Match:
    """The best match of a backbone in what a file holds; it need not be whole.

    Where the trained network and one that follows it are both in the file, the trained one is taken.

    Args:
        content: from `models.weights.foreign_file.read_foreign`.
        backbone: what is looked for.
        layout: whose names; auto tries all that the backbone has.
        entry: of the file's dictionary; None for any.
        prefix: behind which the names stand, with or without the last dot; None for any.

    Raises:
        InputError: where nothing in the file has the backbone's names, or where several networks are equally good.
    """
    kind = type(backbone)
    names = layouts(kind) if layout == AUTO else {layout: naming(kind, layout)}
    given = _entries(content, entry)
    own = backbone.state_dict()
    best = []
    for alike in _alike(names, own):
        published = {key: names[alike[0]](key) for key in own}
        if match := _best_place(alike, published, own, given, prefix):
            best.append(match)
    if not best:
        behind = f" behind {prefix!r}" if prefix is not None else ""
        raise InputError(
            f"nothing in the file{behind} has a name of {class_path(kind)} (tried: {', '.join(names)}); the file has "
            f"{_sample(given)}. Name the network of the file with --backbone and --set"
        )
    return max(best, key=lambda match: (match.is_whole, len(match.tensors), match.named))


def _entries(content: Any, entry: str | None) -> dict[str, StateDict]:
    found = dict(state_dicts(content))
    if not found:
        raise InputError("the file holds no named tensors; expected a state dict, or a dictionary that has one")
    if entry is None:
        return found
    if entry not in found:
        raise InputError(f"the file has no state dict {entry!r}; it has {', '.join(map(repr, found))}")
    return {entry: found[entry]}


def _alike(names: Mapping[str, Naming], own: Mapping[str, Tensor]) -> list[tuple[str, ...]]:
    """Layouts in groups that have the same names."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for layout, to_name in names.items():
        groups.setdefault(tuple(to_name(key) for key in own), []).append(layout)
    return [tuple(group) for group in groups.values()]


def _best_place(
    layouts: tuple[str, ...],
    names: Mapping[str, str],
    own: Mapping[str, Tensor],
    given: Mapping[str, StateDict],
    prefix: str | None,
) -> Match | None:
    matches = [
        match_at(Place(layouts[0], entry, behind, layouts[1:]), names, own, there)
        for entry, there in given.items()
        for behind in _prefixes(names, there, prefix)
    ]
    most = max((match.named for match in matches), default=0)
    # A damaged trained network is to be told, not passed over for the one that follows it.
    near = [match for match in matches if match.named and 2 * match.named >= most]
    leading = [match for match in near if not _follows(match.place)] or near
    most = max((match.named for match in leading), default=0)
    equal = [match for match in leading if match.named == most]
    if 2 * most >= len(names):  # else it is no such network, and parts of it look alike
        _refuse_ambiguous(equal)
    return equal[0] if equal else None


def _prefixes(names: Mapping[str, str], there: StateDict, prefix: str | None) -> Iterator[str]:
    if prefix is not None:
        yield prefix if not prefix or prefix.endswith(".") else f"{prefix}."
        return
    found = find_prefixes(names, there)
    most = max(found.values(), default=0)
    yield from (behind for behind, count in found.items() if 2 * count >= most)


def _follows(place: Place) -> bool:
    return bool(_FOLLOWERS.search(place.entry) or _FOLLOWERS.search(place.prefix))


def _refuse_ambiguous(matches: Sequence[Match]) -> None:
    different = [match for match in matches if not _same(match, matches[0])]
    if not different:
        return
    told = "; ".join(f"--entry {m.place.entry!r} --prefix {m.place.prefix!r}" for m in (matches[0], *different))
    raise InputError(
        f"the file holds {len(different) + 1} different networks that fit equally well; choose one: {told}"
    )


def _same(one: Match, other: Match) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(value, other.tensors[key]) for key, value in one.tensors.items()
    )


def _sample(given: Mapping[str, StateDict]) -> str:
    names = [name for there in given.values() for name in there]
    return ", ".join(names[:3]) + (f", ... ({len(names)} names)" if len(names) > 3 else "")
