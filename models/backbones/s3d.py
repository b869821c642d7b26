"""S3D: the Inception network of I3D with its convolutions taken apart into space and time.

Xie et al., "Rethinking Spatiotemporal Feature Learning" (arXiv 1712.04851), in the form that CoCLR and DualVar train
(their ``backbone/s3dg.py`` without gating).
"""

from __future__ import annotations

from models.backbones._separable import LegacyInit, SeparableInception, released_key, torchvision_key


class S3D(SeparableInception):
    """S3D with BatchNorm, without logits; 7,910,048 parameters at width 64.

    A clip of T x S x S pixels gives (16 width, T/8, S/32, S/32): halves rounded up, the last one down, so that 5 frames
    of 17 x 17 pixels are the smallest clip.

    Args:
        width: channels of the first layer; all others keep their proportion to it, rounded.
        norm_eps: added to the variance in every BatchNorm; torchvision's ``s3d`` has 0.001.
        norm_momentum: weight of a new batch in the running statistics; torchvision's ``s3d`` has 0.001.
        legacy_init: ``coclr`` draws convolutions normal with deviation 0.01, as CoCLR and DualVar do; ``cstp`` as CSTP
            does, with scales of batch norms around 0; None normal with variance 2 / fan out.
    """

    def __init__(
        self,
        width: int = 64,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        legacy_init: LegacyInit | None = None,
    ) -> None:
        super().__init__(
            gating=False, width=width, norm_eps=norm_eps, norm_momentum=norm_momentum, legacy_init=legacy_init
        )


LAYOUTS = {"coclr": released_key, "dualvar": released_key, "torchvision": torchvision_key}
# Weights of these layouts were trained with other settings than the defaults, and are right with these only.
LAYOUT_SETTINGS = {"torchvision": {"norm_eps": 1e-3, "norm_momentum": 1e-3}}
