"""What must be known about weights to use them: the network, its input, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from data_process.errors import InputError
from models.backbone import Backbone
from models.weights.architecture import class_path

CARD_FORMAT = 1
"""Raised whenever a card changes its meaning."""


@dataclass(frozen=True)
class ClipInput:
    """The clips that weights were trained on: RGB in [0, 1], then ``(x - mean) / std``.

    Attributes:
        frames: of a clip.
        size: height and width, pixels.
        mean: per channel.
        std: per channel.
    """

    frames: int
    size: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if min(self.frames, self.size) < 1 or not len(self.mean) == len(self.std) == 3 or min(self.std) <= 0:
            raise InputError(
                "clips have frames and size of at least 1, three means, and three deviations above 0; got "
                f"frames {self.frames}, size {self.size}, mean {list(self.mean)}, std {list(self.std)}"
            )


@dataclass(frozen=True)
class Card:
    """A card of one file of weights.

    Attributes:
        class_path: of the backbone.
        settings: all of them, plain values.
        layout: whose names the file has.
        out_dim: channels of the feature map.
        in_channels: of the clips.
        min_frames: fewest frames of a clip.
        min_size: smallest height and width, pixels.
        num_parameters: of the backbone.
        weights_sha256: of names, shapes, types and bytes of all entries (`models.weights.tensor_file`).
        clips: what it was trained on; None where that is not known.
        provenance: source file with its sha256, step, digest of the configuration, ...; whatever is known.
        intravid: version that wrote the file.
        format: `CARD_FORMAT`.
    """

    class_path: str
    settings: Mapping[str, Any]
    layout: str
    out_dim: int
    in_channels: int
    min_frames: int
    min_size: int
    num_parameters: int
    weights_sha256: str
    clips: ClipInput | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    intravid: str = ""
    format: int = CARD_FORMAT

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"


def card_of(
    backbone: Backbone,
    settings: Mapping[str, Any],
    *,
    layout: str,
    weights_sha256: str,
    clips: ClipInput | None,
    provenance: Mapping[str, Any],
    version: str,
) -> Card:
    """The card of a backbone that was built with these settings."""
    return Card(
        class_path(type(backbone)),
        _plain(settings),
        layout,
        backbone.out_dim,
        backbone.in_channels,
        backbone.min_frames,
        backbone.min_size,
        sum(one.numel() for one in backbone.parameters()),
        weights_sha256,
        clips,
        _plain(provenance),
        version,
    )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them, so that a card is the same before it is written and after."""
    return json.loads(json.dumps(values))


def read_card_text(text: str, source: object) -> Card:
    """A card from its JSON.

    Args:
        text: the JSON.
        source: named in errors.

    Raises:
        InputError: if it is no card, or of another format.
    """
    try:
        content = json.loads(text)
        if content["format"] != CARD_FORMAT:
            raise InputError(
                f"{source} has card format {content['format']}, this intravid reads {CARD_FORMAT}; use the intravid "
                f"that wrote it ({content.get('intravid', 'unknown')}), or export anew"
            )
        if clips := content.pop("clips"):
            clips = ClipInput(clips["frames"], clips["size"], tuple(clips["mean"]), tuple(clips["std"]))
        known = {one.name for one in fields(Card)}
        return Card(**{name: value for name, value in content.items() if name in known}, clips=clips)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the card of {source} cannot be read ({type(error).__name__}: {error}); export anew"
        ) from None
