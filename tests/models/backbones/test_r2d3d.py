"""What R2D3D's two depths see of a clip, and how large they are."""

import pytest
import torch

from models.backbones.r2d3d import R2D3D


def test_depth_18_looks_at_single_frames(random_norms):
    backbone = random_norms(R2D3D(width=4)).eval()
    clips = torch.randn(2, 3, 5, 40, 33)
    with torch.no_grad():
        whole = backbone(clips)
        frames = torch.cat([backbone(clips[:, :, t : t + 1]) for t in range(5)], dim=2)
    assert whole.shape == (2, 16, 5, 2, 2)
    torch.testing.assert_close(whole, frames)


def test_depth_50_looks_over_time(random_norms):
    backbone = random_norms(R2D3D(depth=50, width=4)).eval()
    clips = torch.randn(1, 3, 32, 32, 32)
    changed = clips.clone()
    changed[:, :, 16] += 1.0
    with torch.no_grad():
        reached = (backbone(clips) - backbone(changed)).abs().amax(dim=(0, 1, 3, 4)) > 1e-7
    # The stem spreads frame 16 to places 7 to 9 of 16, each of the nine blocks over time by one place more.
    assert reached.tolist() == [True] * 16
    shallow = backbone.stem(changed) - backbone.stem(clips)
    assert (shallow.abs().amax(dim=(0, 1, 3, 4)) > 0).nonzero().flatten().tolist() == [7, 8, 9]


def test_only_the_deep_feature_map_has_passed_a_last_relu():
    torch.manual_seed(0)
    clips = torch.randn(2, 3, 4, 32, 32)
    assert R2D3D(width=4)(clips).min() < 0
    assert R2D3D(depth=50, width=4)(clips).min() == 0


@pytest.mark.parametrize(("depth", "parameters", "out_dim"), [(18, 5_210_176, 256), (50, 31_672_128, 2048)])
def test_parameters_are_as_many_as_published(depth, parameters, out_dim):
    with torch.device("meta"):
        backbone = R2D3D(depth=depth)
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    assert backbone.out_dim == out_dim


def test_other_depths_do_not_exist():
    with pytest.raises(ValueError, match="depth 18 or 50"):
        R2D3D(depth=34)
