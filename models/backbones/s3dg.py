"""S3D-G: S3D whose blocks scale their channels by what the whole clip shows.

Xie et al., "Rethinking Spatiotemporal Feature Learning" (arXiv 1712.04851), in the form that CSTP (``s3d_byol``), CoCLR
and DualVar (``backbone/s3dg.py`` with gating) train.
"""

from __future__ import annotations

from models.backbones._separable import LegacyInit, SeparableInception, released_key


class S3DG(SeparableInception):
    """S3D with a gate at the end of each branch, without logits; 9,098,000 parameters at width 64.

    A clip of T x S x S pixels gives (16 width, T/8, S/32, S/32): halves rounded up, the last one down, so that 5 frames
    of 17 x 17 pixels are the smallest clip.

    Args:
        width: channels of the first layer; all others keep their proportion to it, rounded.
        norm_eps: added to the variance in every BatchNorm.
        norm_momentum: weight of a new batch in the running statistics.
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
            gating=True, width=width, norm_eps=norm_eps, norm_momentum=norm_momentum, legacy_init=legacy_init
        )


LAYOUTS = {"coclr": released_key, "cstp": released_key, "dualvar": released_key}
