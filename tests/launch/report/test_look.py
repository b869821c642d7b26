"""What the report computes anew agrees with what the commands measure."""

import pytest
import torch
from torch.nn import functional

from launch.evaluate import evaluate, open_videos
from launch.report.look import look_at
from launch.report.runs import read_runs


@pytest.mark.parametrize("centre", ["false", "true", "each"])
def test_neighbours_are_those_of_the_measures_however_features_are_centred(run, centre):
    look = assert_as_measured(run, [f"--eval.centre={centre}"])
    gallery, query = (one.values.double() for one in (look.gallery, look.query))
    taken = {"false": 0 * gallery[0], "true": gallery.mean(dim=0), "each": query.mean(dim=0)}[centre]
    gallery = gallery - (0 if centre == "false" else gallery.mean(dim=0))
    cosines = functional.normalize(query - taken, dim=1) @ functional.normalize(gallery, dim=1).T
    assert torch.allclose(look.similarity, cosines.topk(look.nearest.shape[1], dim=1).values, atol=1e-5)


def test_a_network_looked_at_through_flow_is_shown_flow(run, flow_shards):
    look = assert_as_measured(run, [f"--data.flow={flow_shards}", "--eval.modality=flow-u"])
    assert {record.codec for record in look.query.videos} == {"flow-jpeg"}


def assert_as_measured(run, words):
    (folder,) = read_runs([run])
    look = look_at(folder, words, most_videos=1000)
    videos = [open_videos(look.subject.loaded.config.data, look.config, split) for split in ("train", "test")]
    measured = evaluate(look.subject.backbone, tuple(videos), look.config, measures=("retrieve", "knn"))
    right = (look.predicted == look.query.labels).double().mean()
    nearest = (look.gallery.labels[look.nearest[:, 0]] == look.query.labels).double().mean()
    assert 100 * float(right) == pytest.approx(measured["knn"])
    assert 100 * float(nearest) == pytest.approx(measured["retrieve@1"])
    return look
