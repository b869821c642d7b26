"""How CSTP draws the first weights of its heads."""

from __future__ import annotations

import math

from torch import nn


def draw_as_cstp(head: nn.Module) -> None:
    """Draw linear layers and scales of batch norms anew, uniform in +-sqrt(6 / (fan in + fan out)).

    Both fans of n scales are floor(n / 2), so scales lie around 0 with either sign (`_glorot_uniform` of its models).
    Biases stay as torch draws them.
    """
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.BatchNorm1d):
            bound = math.sqrt(6 / (2 * max(module.num_features // 2, 1)))
            nn.init.uniform_(module.weight, -bound, bound)
