"""From a backbone's output to embeddings and predictions.

B clips, C channels of the feature map, S segments of an embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_process.errors import InputError
from models.heads._initial import draw_as_cstp


class MLPHead(nn.Module):
    """One linear layer, or two with a ReLU between them, over pooled features.

    The heads of the papers, with C features and the published sizes::

        VTDL     identity          MLPHead(C, 128, normalize=True)
                 pseudo-labels     MLPHead(C, 200)
        DualVar  clip projection   MLPHead(C, 128, hidden_dim=C, normalize=True)
                 S segments of D   MLPHead(C, S * D, hidden_dim=C, segments=S, normalize=True)
        CSTP     projector         MLPHead(512, 512, hidden_dim=4096, batch_norm=True)
                 predictor         the same
                 overlap           MLPHead(2 * C, 5, hidden_dim=2 * C, batch_norm=True), both clips side by side
                 playback          MLPHead(C, 4, hidden_dim=C, batch_norm=True); the release has a fifth, unused class

    CSTP on C3D, R3D and I3D has no projector and single linear layers for overlap and playback.

    Args:
        in_dim: features.
        out_dim: numbers given for each clip.
        hidden_dim: width between two layers; None for a single layer.
        batch_norm: normalise the hidden layer over the batch, before the ReLU.
        segments: give (B, segments, out_dim / segments) instead of (B, out_dim); 0 for one embedding.
        normalize: scale each embedding (of a segment) to length 1.
        legacy_init: draw the first weights as CSTP does, scales of the batch norm around 0; else as torch does.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        hidden_dim: int | None = None,
        batch_norm: bool = False,
        segments: int = 0,
        normalize: bool = False,
        legacy_init: bool = False,
    ) -> None:
        super().__init__()
        if batch_norm and hidden_dim is None:
            raise ValueError("batch_norm stands behind the hidden layer; give hidden_dim")
        if segments < 0 or (segments and out_dim % segments):
            raise ValueError(f"{out_dim} outputs do not divide into {segments} segments")
        self.out_dim, self.segments, self.normalize = out_dim, segments, normalize
        self.hidden = None if hidden_dim is None else nn.Linear(in_dim, hidden_dim)
        self.norm = nn.BatchNorm1d(hidden_dim) if batch_norm and hidden_dim else None
        self.out = nn.Linear(in_dim if hidden_dim is None else hidden_dim, out_dim)
        if legacy_init:
            draw_as_cstp(self)

    @property
    def out_shape(self) -> torch.Size:
        """Of what is given for one clip: (out_dim,), or (segments, out_dim / segments)."""
        return torch.Size((self.segments, self.out_dim // self.segments) if self.segments else (self.out_dim,))

    def forward(self, features: Tensor) -> Tensor:
        """(B, out_dim), or (B, segments, out_dim / segments), of pooled features (B, in_dim)."""
        x = features
        if self.hidden is not None:
            x = self.hidden(x)
            x = functional.relu(x if self.norm is None else self.norm(x))
        x = self.out(x)
        x = x.unflatten(1, (self.segments, -1)) if self.segments else x
        return unit_length(x) if self.normalize else x


class UnitFeatures(nn.Module):
    """The feature map itself as an embedding: averaged over the picture, in time down to a few frames.

    VTDL's ``feature_head`` keeps 2 frames of I3D and 1 of R3D.

    Args:
        num_frames: that are kept.
    """

    def __init__(self, num_frames: int = 1) -> None:
        super().__init__()
        self.num_frames = num_frames

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C * num_frames) of length 1, frames of a channel side by side, of a map (B, C, t, h, w).

        Raises:
            InputError: where the map has fewer frames than are kept.
        """
        if feature_map.shape[2] < self.num_frames:
            raise InputError(
                f"UnitFeatures keeps {self.num_frames} frames, the feature map has {feature_map.shape[2]}; "
                "give longer clips"
            )
        return unit_length(functional.adaptive_avg_pool3d(feature_map, (self.num_frames, 1, 1)).flatten(1))


def unit_length(x: Tensor) -> Tensor:
    """Vectors along the last axis scaled to length 1, in float32 at least: under autocast too."""
    return functional.normalize(x.double() if x.element_size() == 8 else x.float(), dim=-1)
