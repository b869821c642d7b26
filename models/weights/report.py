"""A match told to people: what was found and what was not, and whether it is enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from data_process.errors import InputError
from models.weights.match import Match

_MOST = 8
"""Names of one kind that are told; the rest is counted."""


def report(match: Match, path: Path) -> str:
    """Several lines: where the backbone was found, then every kind of entry with its number and first names."""
    place = match.place
    numbers = sum(one.numel() for one in match.tensors.values())
    total = match.named + len(match.missing) + len(match.counters)
    where = f"entry {place.entry!r}" if place.entry else "the whole file"
    behind = f" behind {place.prefix!r}" if place.prefix else ""
    layouts = "layout " + " = ".join((place.layout, *place.alike))
    lines = [
        f"{path}: {where}, names of {layouts}{behind}",
        f"  matched     {len(match.tensors)} of {total} entries, {numbers:,} numbers",
        f"  missing     {_told(match.missing)}",
        f"  unexpected  {_told(match.unexpected)}",
        f"  mis-shaped  {_told(_shapes(match.misshapen))}",
    ]
    optional = {
        "not finite": match.not_finite,
        "unequal": match.unequal,
        "counters": match.counters,
    }
    lines += [f"  {name:<11} {_told(names)}" for name, names in optional.items() if names]
    if match.copies:
        lines.append(f"  copies      {match.copies} entries are held twice; one of each was taken")
    if match.beside:
        groups = ", ".join(f"{name} ({count})" for name, count in match.beside.items())
        lines.append(f"  left out    {sum(match.beside.values())} of heads and others: {groups}")
    return "\n".join(lines)


def refuse(match: Match, path: Path, *, allow_partial: bool = False, hint: str = "") -> None:
    """Refuse what is no whole backbone.

    Args:
        match: what was found.
        path: where.
        allow_partial: take a match that lacks entries or leaves some over; damaged numbers never.
        hint: a sentence about what the file may be instead.

    Raises:
        InputError: with the counts, and what mends it.
    """
    if match.unequal:
        raise InputError(
            f"{path}: {len(match.unequal)} entries are held twice with different values ({_told(match.unequal)}), so "
            "neither can be trusted; give the file as its program saved it"
        )
    if match.not_finite:
        raise InputError(
            f"{path}: {len(match.not_finite)} entries hold infinities or NaN ({_told(match.not_finite)}); give an "
            "earlier checkpoint"
        )
    if not match.tensors:
        raise InputError(
            f"{path}: no entry has the shape of this backbone's; another --backbone or --set may fit.{hint}"
        )
    if match.is_whole or allow_partial:
        return
    raise InputError(
        f"{path} is not a whole backbone of this kind (best fit: layout {match.place.layout}): "
        f"missing {_told(match.missing)}; unexpected {_told(match.unexpected)}; "
        f"mis-shaped {_told(_shapes(match.misshapen))}.{hint} Name the network that it is of with "
        "--backbone and --set, or take what fits with --allow-partial: the rest keeps its first weights"
    )


def _shapes(misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> list[str]:
    return [f"{name} {list(there)} instead of {list(here)}" for name, (there, here) in misshapen.items()]


def _told(names: Iterable[str]) -> str:
    every = list(names)
    if not every:
        return "0"
    more = f" and {len(every) - _MOST} more" if len(every) > _MOST else ""
    return f"{len(every)} ({', '.join(every[:_MOST])}{more})"
