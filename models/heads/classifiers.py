"""The layers that fine-tuning and linear probes put on a backbone.

Both give logits: the log-softmax that VTDL applies inside the network is part of cross-entropy.
B clips, C channels of the feature map, N classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from data_process.errors import InputError
from models.heads._initial import draw_as_cstp
from models.heads.embedding import unit_length


class LinearClassifier(nn.Module):
    """A linear layer over pooled features, which may be normalised before.

    As published::

        IIC, VTDL on R(2+1)D and C3D     LinearClassifier(C, N, init_std=None)
        DualVar                          LinearClassifier(C, N); its options are dropout or hidden_dim=128, normalize,
                                         batch_norm
        CoCLR                            the same, with dropout
        CSTP                             LinearClassifier(C, N, normalize=True, batch_norm=True, legacy_init=True)

    Args:
        in_dim: C.
        num_classes: N.
        normalize: scale each feature vector to length 1, first of all.
        batch_norm: normalise each feature over the batch.
        dropout: share of features set to 0 in training.
        hidden_dim: width of a further layer with ReLU; None for none.
        init_std: of the first weights, with biases 0: all classes begin alike. None for torch's own.
        legacy_init: draw all of them as CSTP does, scales of the batch norm around 0, in place of `init_std`.
    """

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        normalize: bool = False,
        batch_norm: bool = False,
        dropout: float = 0.0,
        hidden_dim: int | None = None,
        init_std: float | None = 0.01,
        legacy_init: bool = False,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.norm = nn.BatchNorm1d(in_dim) if batch_norm else None
        self.dropout = nn.Dropout(dropout)
        self.hidden = None if hidden_dim is None else nn.Linear(in_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim or in_dim, num_classes)
        if init_std is not None and not legacy_init:
            for layer in filter(None, (self.hidden, self.out)):
                nn.init.normal_(layer.weight, std=init_std)
                nn.init.zeros_(layer.bias)
        if legacy_init:
            draw_as_cstp(self)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, N) of pooled features (B, C), or of a feature map (B, C, t, h, w), which is averaged."""
        x = features.mean(dim=(2, 3, 4)) if features.ndim == 5 else features
        x = unit_length(x) if self.normalize else x
        x = x if self.norm is None else self.norm(x)
        x = self.dropout(x)
        return self.out(x if self.hidden is None else self.hidden(x).relu())


class TemporalClassifier(nn.Module):
    """A convolution over time that is averaged last: I3D's own classifier (Carreira and Zisserman, arXiv 1705.07750).

    As published::

        VTDL on I3D       TemporalClassifier(1024, N, dropout=0.5)
        CSTP on I3D       TemporalClassifier(1024, N)
        VTDL on R3D-18    TemporalClassifier(512, N, window=1, kernel=1)

    The originals average over 7 x 7 places, which for clips of 224 pixels is the whole picture, and fail at other
    sizes; here it is the whole picture at any size. The convolution has no bias and is padded with zeros.

    Args:
        in_dim: C.
        num_classes: N.
        window: frames of the feature map that are averaged before the convolution.
        kernel: frames that the convolution sees; odd.
        dropout: share of values set to 0 in training.
    """

    def __init__(
        self, in_dim: int, num_classes: int, *, window: int = 2, kernel: int = 7, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if window < 1 or kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"window {window} must be at least 1 and kernel {kernel} odd")
        self.window = window
        self.dropout = nn.Dropout(dropout)
        self.conv = nn.Conv3d(in_dim, num_classes, (kernel, 1, 1), padding=(kernel // 2, 0, 0), bias=False)
        nn.init.xavier_uniform_(self.conv.weight, gain=math.sqrt(2.0))  # as VTDL initialises all convolutions

    def forward(self, feature_map: Tensor) -> Tensor:
        """Logits (B, N) of a feature map (B, C, t, h, w), the mean over its t - window + 1 places in time.

        Raises:
            InputError: where the map has fewer frames than the window.
        """
        if feature_map.ndim != 5 or feature_map.shape[2] < self.window:
            raise InputError(
                f"TemporalClassifier averages {self.window} frames of a feature map (B, C, t, h, w), got one of "
                f"{tuple(feature_map.shape)}; give longer clips, or a smaller window"
            )
        x = feature_map.mean(dim=(3, 4), keepdim=True).unfold(2, self.window, 1).mean(dim=-1)
        return self.conv(self.dropout(x)).mean(dim=(2, 3, 4))


@dataclass(frozen=True)
class ClassifierHead:
    """Which of the layers above stands on a backbone.

    Attributes:
        kind: linear (`LinearClassifier`, over pooled features) or temporal (`TemporalClassifier`, over feature maps).
        normalize: of linear: scale features to length 1 first (CSTP).
        batch_norm: of linear: normalise each feature over the batch (CSTP).
        hidden_dim: of linear: width of a further layer; null for none.
        init_std: of linear: of the first weights; null for torch's own (IIC, VTDL).
        legacy_init: of linear: first weights as CSTP draws them.
        window: of temporal: frames of the feature map that are averaged first.
        kernel: of temporal: frames that its convolution sees.
    """

    kind: Literal["linear", "temporal"] = "linear"
    normalize: bool = False
    batch_norm: bool = False
    hidden_dim: int | None = None
    init_std: float | None = 0.01
    legacy_init: bool = False
    window: int = 2
    kernel: int = 7

    def build(self, in_dim: int, num_classes: int, *, dropout: float) -> LinearClassifier | TemporalClassifier:
        """The layer, with first weights.

        Args:
            in_dim: channels of the feature map.
            num_classes: logits.
            dropout: share of its inputs set to 0 in training.
        """
        if self.kind == "temporal":
            return TemporalClassifier(in_dim, num_classes, window=self.window, kernel=self.kernel, dropout=dropout)
        return LinearClassifier(
            in_dim,
            num_classes,
            normalize=self.normalize,
            batch_norm=self.batch_norm,
            dropout=dropout,
            hidden_dim=self.hidden_dim,
            init_std=self.init_std,
            legacy_init=self.legacy_init,
        )
