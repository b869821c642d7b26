import numpy as np
import pytest
import torch
from torch.nn import functional

from data_process.errors import InputError
from engine.features import EvalConfig, clip_features, extract_features
from engine.world import World
from models.views import residual
from pipelines.batch import ViewBatch
from pipelines.order import evaluation_slice
from tests.engine.tiny import TinyBackbone

NUM_VIDEOS = 7


def backbone():
    torch.manual_seed(0)
    network = TinyBackbone()
    # Statistics other than 0 and 1: only eval mode uses them.
    network.norm.running_mean.fill_(0.1)
    network.norm.running_var.fill_(2.0)
    return network.train()


def clips_of(video, num_clips=3):
    rng = np.random.default_rng(video)
    return [torch.from_numpy(rng.random((3, 4, 4, 4), dtype=np.float32)) for _ in range(num_clips)]


def batches(indices, batch_size):
    for first in range(0, len(indices), batch_size):
        part = list(indices[first : first + batch_size])
        views = zip(*(clips_of(video) for video in part), strict=True)
        yield ViewBatch(tuple(torch.stack(view) for view in views), torch.tensor(part))


def extracted(world=None, *, batch_size=3, **settings):
    world, config = world or World(), EvalConfig(**settings)
    mine = evaluation_slice(NUM_VIDEOS, rank=world.rank, world_size=world.world_size)
    return extract_features(backbone(), batches(mine, batch_size), config, world=world, label="clips", total=len(mine))


@pytest.mark.parametrize("modality", ["rgb", "residual"])
@pytest.mark.parametrize("feature", ["pooled", "conv"])
def test_a_videos_feature_is_the_mean_of_its_clips_one_by_one(modality, feature):
    network, expected = backbone().eval(), []
    with torch.no_grad():
        for video in range(NUM_VIDEOS):
            rows = []
            for clip in clips_of(video):
                seen = residual(clip[None]) if modality == "residual" else clip[None]
                maps = network(seen)
                pooled = maps.mean(dim=(2, 3, 4))
                rows.append(pooled if feature == "pooled" else functional.max_pool3d(maps, (1, 2, 2)).flatten(1))
            expected.append(torch.cat(rows).mean(dim=0))
    torch.testing.assert_close(extracted(modality=modality, feature=feature), torch.stack(expected), rtol=0, atol=1e-6)


def test_features_do_not_depend_on_the_batch_size():
    one, many = extracted(batch_size=1), extracted(batch_size=NUM_VIDEOS)
    assert one.shape[0] == NUM_VIDEOS
    torch.testing.assert_close(one, many, rtol=0, atol=1e-6)


def test_extraction_leaves_mode_and_statistics_of_the_backbone_alone():
    network = backbone()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    extract_features(network, batches(range(2), 2), EvalConfig(), world=World(), label="clips", total=2)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_maps_smaller_than_the_pooling_window_still_have_conv_features():
    features = clip_features(backbone().eval(), torch.rand(2, 3, 4, 1, 1), EvalConfig(feature="conv"))
    assert features.shape == (2, 4 * 4)


def _sharded(world, settings):
    return extracted(world, **settings).numpy()


@pytest.mark.parametrize("feature", ["pooled", "conv"])
def test_two_ranks_extract_what_one_process_does_in_the_same_order(two_ranks, feature):
    first, second = two_ranks.run(_sharded, {"feature": feature})
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, extracted(feature=feature).numpy(), atol=1e-6)


def _one_video_for_two_ranks(world):
    mine = evaluation_slice(1, rank=world.rank, world_size=world.world_size)
    config = EvalConfig(feature="pooled")
    given = {"world": world, "label": "clips", "total": len(mine)}
    return tuple(extract_features(backbone(), batches(mine, 2), config, **given).shape)


def test_a_rank_without_videos_still_takes_part(two_ranks):
    assert two_ranks.run(_one_video_for_two_ranks) == [(1, 4), (1, 4)]


@pytest.mark.parametrize("wrong", [{"num_clips": 0}, {"ks": ()}, {"temperature": 0.0}, {"linear_l2": -1.0}])
def test_impossible_settings_are_refused_when_built(wrong):
    with pytest.raises(InputError, match=f"eval.{next(iter(wrong))}"):
        EvalConfig(**wrong)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 30])
def test_rows_of_a_video_are_averaged_over_the_ends_of_batches(batch_size):
    counts = {4: 3, 0: 1, 6: 4, 2: 2}
    rows = [
        (video, clips_of(video, num_clips=count)[place][None])
        for video, count in counts.items()
        for place in range(count)
    ]

    def windows():
        for first in range(0, len(rows), batch_size):
            index, clips = zip(*rows[first : first + batch_size], strict=True)
            yield ViewBatch((torch.cat(clips),), torch.tensor(index))

    network, config = backbone(), EvalConfig(feature="pooled")
    values = extract_features(network, windows(), config, world=World(), label="windows", total=len(counts))
    with torch.no_grad():
        expected = [
            network.eval().pooled(torch.stack(clips_of(video, num_clips=count))).mean(dim=0)
            for video, count in counts.items()
        ]
    torch.testing.assert_close(values, torch.stack(expected), rtol=0, atol=1e-6)
