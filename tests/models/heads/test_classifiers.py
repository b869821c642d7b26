import pytest
import torch
from torch.nn import functional

from data_process.errors import InputError
from models.heads.classifiers import LinearClassifier, TemporalClassifier


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_a_feature_map_is_averaged_and_features_are_taken_as_they_are():
    head, maps = LinearClassifier(3, 5), drawn(2, 3, 4, 5, 6)
    torch.testing.assert_close(head(maps), head(maps.flatten(2).mean(dim=2)))


def test_features_are_scaled_to_length_one_before_the_batch_norm():
    head, x = LinearClassifier(6, 4, normalize=True, batch_norm=True), drawn(5, 6) * 50
    unit = x / x.norm(dim=1, keepdim=True)
    normalised = (unit - unit.mean(0)) / (unit.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(head(x), head.out(normalised))


def test_a_hidden_layer_has_a_relu():
    head, x = LinearClassifier(6, 4, hidden_dim=8, init_std=None), drawn(5, 6)
    torch.testing.assert_close(head(x), head.out(head.hidden(x).clamp_min(0)))


def test_all_classes_begin_nearly_alike_unless_asked_otherwise():
    x = drawn(8, 512)
    assert LinearClassifier(512, 101)(x).std() < 0.3
    assert LinearClassifier(512, 101, init_std=None)(x).std() > 0.4


def test_drawn_as_in_cstp_weights_fill_their_range_and_scales_lie_around_zero():
    torch.manual_seed(0)
    head = LinearClassifier(512, 101, batch_norm=True, legacy_init=True)
    for values, bound in ((head.out.weight, (6 / 613) ** 0.5), (head.norm.weight, (6 / 512) ** 0.5)):
        assert 0.98 * bound < values.max() <= bound
        assert -bound <= values.min() < -0.98 * bound
        assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_dropout_acts_in_training_only():
    head, x = LinearClassifier(64, 4, dropout=0.5), drawn(2, 64)
    torch.testing.assert_close(head.eval()(x), x @ head.out.weight.T + head.out.bias)
    assert not torch.allclose(head.train()(x), head(x))


@pytest.mark.parametrize(("window", "kernel", "frames"), [(2, 7, 8), (2, 7, 2), (1, 1, 3), (3, 3, 5)])
def test_the_temporal_classifier_equals_loops_over_windows_and_taps(window, kernel, frames):
    head, maps = TemporalClassifier(3, 4, window=window, kernel=kernel).double(), drawn(2, 3, frames, 2, 2).double()
    places = [maps[:, :, at : at + window].mean(dim=(2, 3, 4)) for at in range(frames - window + 1)]
    total = torch.zeros(2, 4, dtype=torch.float64)
    for at in range(len(places)):
        for tap in range(kernel):
            if 0 <= (seen := at + tap - kernel // 2) < len(places):
                total += places[seen] @ head.conv.weight[:, :, tap, 0, 0].T
    torch.testing.assert_close(head(maps), total / len(places))


def test_at_the_published_size_the_whole_picture_is_the_published_pooling():
    head, maps = TemporalClassifier(3, 4), drawn(2, 3, 8, 7, 7)
    pooled = functional.avg_pool3d(maps, (2, 7, 7), stride=1)
    torch.testing.assert_close(head(maps), head.conv(pooled).squeeze(3).squeeze(3).mean(2))


def test_a_map_shorter_than_the_window_is_refused():
    with pytest.raises(InputError, match=r"averages 2 frames .* got one of \(1, 3, 1, 7, 7\)"):
        TemporalClassifier(3, 4)(torch.zeros(1, 3, 1, 7, 7))


@pytest.mark.parametrize("wrong", [{"kernel": 6}, {"window": 0}, {"kernel": 0}])
def test_a_kernel_without_a_middle_is_refused(wrong):
    with pytest.raises(ValueError, match="odd"):
        TemporalClassifier(3, 4, **wrong)
