import pytest
import torch
from torch.nn import functional

from data_process.errors import InputError
from models.heads.embedding import MLPHead, UnitFeatures


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_without_a_hidden_layer_the_head_is_linear():
    head, x = MLPHead(6, 4), drawn(3, 6)
    torch.testing.assert_close(head(x), x @ head.out.weight.T + head.out.bias)


def test_the_batch_norm_stands_between_the_hidden_layer_and_the_relu():
    head, x = MLPHead(6, 4, hidden_dim=8, batch_norm=True), drawn(5, 6)
    hidden = head.hidden(x)
    normalised = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(head(x), head.out(normalised.clamp_min(0)))


def test_drawn_as_in_cstp_scales_of_the_batch_norm_have_either_sign():
    torch.manual_seed(0)
    head = MLPHead(512, 5, hidden_dim=512, batch_norm=True, legacy_init=True)
    assert (head.norm.weight < 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert head.hidden.weight.abs().max() <= (6 / 1024) ** 0.5
    assert (MLPHead(512, 5, hidden_dim=512, batch_norm=True).norm.weight == 1).all()


def test_each_segment_is_a_part_of_the_output_with_length_one():
    whole = MLPHead(6, 8, hidden_dim=6)
    parted = MLPHead(6, 8, hidden_dim=6, segments=2, normalize=True)
    parted.load_state_dict(whole.state_dict())
    x = drawn(3, 6)
    expected = torch.stack([functional.normalize(part, dim=1) for part in whole(x).chunk(2, dim=1)], dim=1)
    torch.testing.assert_close(parted(x), expected)


def test_lengths_are_one_under_autocast_too():
    head = MLPHead(16, 128, normalize=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = head(drawn(4, 16))
    assert embedding.dtype == torch.float32
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4), rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_frames", [1, 2])
def test_unit_features_average_the_picture_and_parts_of_the_time(num_frames):
    maps = drawn(2, 3, 4, 5, 6)
    parts = [part.mean(dim=(2, 3, 4)) for part in maps.chunk(num_frames, dim=2)]
    expected = functional.normalize(torch.stack(parts, dim=2).flatten(1), dim=1)
    torch.testing.assert_close(UnitFeatures(num_frames)(maps), expected)


def test_more_frames_than_the_map_has_are_refused():
    with pytest.raises(InputError, match="keeps 2 frames, the feature map has 1"):
        UnitFeatures(2)(torch.zeros(1, 3, 1, 2, 2))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"batch_norm": True}, "hidden_dim"), ({"segments": 3}, "3 segments"), ({"segments": -1}, "-1 segments")],
)
def test_settings_that_contradict_each_other_are_refused(wrong, why):
    with pytest.raises(ValueError, match=why):
        MLPHead(6, 8, **wrong)
