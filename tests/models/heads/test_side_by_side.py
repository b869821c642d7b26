import torch

from models.heads.embedding import MLPHead
from models.heads.side_by_side import SideBySide


def test_what_is_split_is_what_each_head_gives():
    heads = {
        "clip": MLPHead(6, 5, hidden_dim=6, normalize=True),
        "segments": MLPHead(6, 12, segments=3, normalize=True),
    }
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    both = SideBySide(heads)
    rows = both(features)
    assert rows.shape == (4, both.out_dim) == (4, 17)
    parts = both.split(rows)
    assert list(parts) == ["clip", "segments"]
    assert parts["segments"].shape == (4, 3, 4)
    for name, head in heads.items():
        assert torch.equal(parts[name], head(features))
        assert head.out_shape == parts[name].shape[1:]
