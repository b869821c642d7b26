"""The smallest clip that a backbone promises to take is the smallest that it can compute."""

import pytest
import torch

from models.backbones.i3d import I3D
from models.backbones.r2d3d import R2D3D
from models.backbones.s3d import S3D
from models.backbones.s3dg import S3DG


@pytest.mark.parametrize("kind", [I3D, S3D, S3DG, R2D3D])
def test_two_smallest_clips_are_enough_to_train_on(kind):
    torch.manual_seed(0)
    backbone = kind(width=4)
    feature_map = backbone(torch.randn(2, 3, backbone.min_frames, backbone.min_size, backbone.min_size))
    assert feature_map.shape == (2, backbone.out_dim, 1, 1, 1)
    assert feature_map.isfinite().all()


@pytest.mark.parametrize("kind", [I3D, S3D, S3DG])
@pytest.mark.parametrize("less", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_a_smaller_clip_cannot_be_computed(kind, less):
    backbone = kind(width=4).eval()
    smallest = (backbone.min_frames, backbone.min_size, backbone.min_size)
    x = torch.zeros(1, 3, *(side - missing for side, missing in zip(smallest, less, strict=True)))
    with pytest.raises(RuntimeError, match=r"[Ss]ize|small"):
        torch.nn.Sequential(*backbone.parts())(x)
