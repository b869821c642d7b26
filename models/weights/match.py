"""Which entries of a state dict are the backbone's: names, shapes, second copies, and what is left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.weights.copies import second_name

COUNTER = "num_batches_tracked"
"""Last part of the name of a batch norm's counter; files from before torch 0.4.1 have none."""


@dataclass(frozen=True)
class Place:
    """Where in a file, and under which names, a backbone is looked for.

    Attributes:
        layout: whose names.
        entry: of the file's dictionary, '' for the file itself.
        prefix: of wrappers before each name, such as ``module.encoder_q.0.``.
        alike: other layouts with the same names.
    """

    layout: str
    entry: str = ""
    prefix: str = ""
    alike: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """What was found there; names are the file's, without the prefix.

    Attributes:
        place: where.
        tensors: key of our state dict to tensor, of the shape and type that the backbone has.
        missing: names that the file does not have.
        counters: missing counters of batch norms, which stay 0: nothing depends on them.
        unexpected: names in the same modules that this backbone does not have.
        misshapen: name to its shape in the file and in the backbone.
        not_finite: names of tensors with infinities or NaN.
        copies: how many entries the file holds twice, equal under both names.
        unequal: names whose two copies differ.
        beside: first parts of all other names (heads, other networks, queues) to how many there are.
    """

    place: Place
    tensors: Mapping[str, Tensor] = field(repr=False)
    missing: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    not_finite: tuple[str, ...] = ()
    copies: int = 0
    unequal: tuple[str, ...] = ()
    beside: Mapping[str, int] = field(default_factory=dict)

    @property
    def named(self) -> int:
        """Entries that the file has by name, whatever is in them."""
        return len(self.tensors) + len(self.misshapen) + len(self.not_finite)

    @property
    def is_whole(self) -> bool:
        """Whether the file has this backbone, all of it and nothing else in its modules."""
        return not (self.missing or self.unexpected or self.misshapen or self.is_damaged)

    @property
    def is_damaged(self) -> bool:
        """Whether its numbers cannot be right."""
        return bool(self.not_finite or self.unequal)


def find_prefixes(names: Mapping[str, str], keys: Mapping[str, Tensor]) -> Counter[str]:
    """Prefix to the number of keys that are that prefix and one of the names."""
    wanted = _all_names(names)
    found: Counter[str] = Counter()
    for key in keys:
        start = 0
        while True:
            if key[start:] in wanted:
                found[key[:start]] += 1
            start = key.find(".", start) + 1
            if not start:
                break
    return found


def match_at(place: Place, names: Mapping[str, str], own: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Match:
    """Compare a backbone with a state dict.

    Args:
        place: which prefix to look behind.
        names: key of our state dict to its name in the layout.
        own: our state dict, for shapes and types.
        there: the state dict of the file.
    """
    inside = {key[len(place.prefix) :]: one for key, one in there.items() if key.startswith(place.prefix)}
    given = {name: _given(name, inside) for name in names.values()}
    missing = [name for name, copies in given.items() if not copies]
    twice = [name for name, copies in given.items() if len(copies) == 2]
    shapes = {name: (copies[0].shape, own[key].shape) for key, name in names.items() if (copies := given[name])}
    misshapen = {name: (tuple(one), tuple(other)) for name, (one, other) in shapes.items() if one != other}
    fitting = [name for name in shapes if name not in misshapen]
    finite = {name for name in fitting if torch.isfinite(given[name][0]).all()}
    unexpected, beside = _left_over(place, inside, there, _all_names(names))
    return Match(
        place,
        {key: given[name][0].to(own[key].dtype) for key, name in names.items() if name in finite},
        missing=tuple(name for name in missing if not name.endswith(COUNTER)),
        counters=tuple(name for name in missing if name.endswith(COUNTER)),
        unexpected=unexpected,
        misshapen=misshapen,
        not_finite=tuple(name for name in fitting if name not in finite),
        copies=len(twice),
        unequal=tuple(name for name in twice if not _equal(*given[name])),
        beside=beside,
    )


def _all_names(names: Mapping[str, str]) -> set[str]:
    return {one for name in names.values() for one in (name, second_name(name)) if one is not None}


def _given(name: str, inside: Mapping[str, Tensor]) -> list[Tensor]:
    """The tensors that a file holds under the two names of an entry: none, one or two."""
    return [inside[one] for one in (name, second_name(name)) if one is not None and one in inside]


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _left_over(
    place: Place, inside: Mapping[str, Tensor], there: Mapping[str, Tensor], known: set[str]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names of a deeper or gated network, in modules that the backbone has too; and all others, grouped and counted."""
    modules = {name.partition(".")[0] for name in known}
    more = [name for name in inside if name not in known]
    unexpected = tuple(name for name in more if name.partition(".")[0] in modules)
    heads = [name for name in more if name.partition(".")[0] not in modules]
    others = [key.removeprefix("module.") for key in there if not key.startswith(place.prefix)]
    return unexpected, dict(Counter(name.partition(".")[0] for name in heads + others))
