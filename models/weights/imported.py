"""Weights of another program as a backbone of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_process.errors import InputError
from models.backbone import Backbone
from models.weights.architecture import build, full_settings, layout_settings
from models.weights.card import ClipInput
from models.weights.exported import Weights
from models.weights.foreign_file import file_sha256, read_foreign
from models.weights.match import Match
from models.weights.recognise import hint
from models.weights.report import refuse
from models.weights.search import AUTO, search


@dataclass(frozen=True)
class Found:
    """A backbone that was looked for in a file.

    Attributes:
        path: the file.
        backbone: new, still with its first weights.
        settings: all that it was built with.
        match: what the file has for it.
        hint: where that is not whole, a sentence about what the file may be instead.
    """

    path: Path
    backbone: Backbone
    settings: Mapping[str, Any]
    match: Match
    hint: str = ""


def find_backbone(
    path: Path,
    kind: type[Backbone],
    given: Mapping[str, Any] | None = None,
    *,
    layout: str = AUTO,
    entry: str | None = None,
    prefix: str | None = None,
    trust: bool = False,
) -> Found:
    """Look for a backbone in the weights of another program.

    Args:
        path: any file that torch.save or safetensors wrote.
        kind: class of the backbone.
        given: its settings; those left out are as networks of the layout have them, else the defaults.
        layout: see `models.weights.search.search`, as for entry and prefix.
        entry: of the file's dictionary.
        prefix: before the names.
        trust: let the file run code of its own while it is read.

    Raises:
        InputError: if the file cannot be read, or has nothing of this backbone.
    """
    settings = full_settings(kind, given or {})
    backbone, content = build(kind, settings), read_foreign(path, trust=trust)
    try:
        match = search(content, backbone, layout=layout, entry=entry, prefix=prefix)
    except InputError as error:
        raise InputError(f"{path}: {error}.{hint(content)}") from None
    if of_layout := layout_settings(kind, match.place.layout):
        settings = full_settings(kind, {**of_layout, **(given or {})})
        backbone = build(kind, settings)
        match = search(content, backbone, layout=match.place.layout, entry=entry, prefix=prefix)
    return Found(path, backbone, settings, match, "" if match.is_whole else hint(content))


def take(found: Found, *, clips: ClipInput | None = None, allow_partial: bool = False) -> Weights:
    """The backbone with the weights that were found for it.

    Args:
        found: from `find_backbone`; its backbone is changed.
        clips: what the weights were trained on, where that is known.
        allow_partial: keep first weights where the file has none.

    Raises:
        InputError: for a match that is not whole, unless a partial one is allowed; for damaged numbers in any case.
    """
    match = found.match
    refuse(match, found.path, allow_partial=allow_partial, hint=found.hint)
    found.backbone.load_state_dict(match.tensors, strict=False)
    provenance = {"source": found.path.name, "source_sha256": file_sha256(found.path), "found": asdict(match.place)}
    if not match.is_whole:
        provenance |= {"not_loaded": [*match.missing, *match.misshapen], "not_taken": list(match.unexpected)}
    return Weights(found.backbone, found.settings, clips, provenance)
