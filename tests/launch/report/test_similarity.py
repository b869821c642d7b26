"""Matrices of cosines: that they are of the run's trained network, and of the clips and segments that they name."""

from dataclasses import replace

import pytest
import torch

from data_process.errors import InputError
from engine.checkpoint import latest_checkpoint, method_weights, read_checkpoint
from engine.part_cosines import part_cosines
from launch import cli
from launch.report.look import look_at
from launch.report.runs import read_runs
from launch.report.similarity import similarity
from launch.seen import draw_batch
from models.method import DatasetFacts
from tests.launch.report.conftest import SMALL
from tests.launch.runs import ROOT


def matrices(made):
    """Caption to the rows of numbers below it."""
    found = {}
    for section in made:
        for one in section.iter("div"):
            if len(one) and one[0].get("class") == "caption":
                found[one[0].text] = [[float(cell.text) for cell in row.iter("td")] for row in one.iter("tr")][1:]
    return found


@pytest.fixture(scope="module")
def dualvar(shards, tmp_path_factory):
    """A look at a run of DualVar."""
    folder = tmp_path_factory.mktemp("runs") / "dualvar"
    settings = {"data.root": shards, "run_dir": folder, "train.steps": 3, "dist.device": "cpu", **SMALL}
    recipe = str(ROOT / "configs" / "smoke" / "dualvar.yaml")
    assert cli.main(["pretrain", recipe, *(f"--{key}={value}" for key, value in settings.items())]) == 0
    (run,) = read_runs([folder])
    return look_at(run, [], most_videos=100)


def test_segments_are_those_of_the_trained_network_and_of_its_first_weights(dualvar):
    look = replace(dualvar, config=replace(dualvar.config, batch_size=3))  # in parts of 3, 3 and 2 videos
    found = matrices(similarity(look))
    loaded = dualvar.subject.loaded
    for name, trained in (("step 3", True), ("random network", False)):
        method = loaded.build_method(DatasetFacts(16, 2)).eval()  # of as many videos as the run: all its state fits
        if trained:
            method.load_state_dict(method_weights(read_checkpoint(latest_checkpoint(dualvar.run.path))))
        parts = method.parts(draw_batch(loaded, method, dualvar.query.videos, most=64))
        within, between = part_cosines(torch.stack(list(parts.values()), dim=1))
        shown = [
            rows for title, rows in found.items() if title.startswith(f"{name}; mean of different videos {between:.2f}")
        ]
        assert any(torch.allclose(torch.tensor(rows).double(), within, atol=0.0051) for rows in shown if len(rows) == 4)


def test_clips_of_a_video_are_compared_in_their_order(dualvar):
    clips = dualvar.query.clips
    # The second clip of each video is made the opposite of its first.
    for video in range(len(dualvar.query.chosen)):
        first, second = (dualvar.query.of_video == video).nonzero().flatten().tolist()
        clips = clips.index_put((torch.tensor(second),), -clips[first])
    look = replace(dualvar, config=replace(dualvar.config, centre=False), query=replace(dualvar.query, clips=clips))
    found = matrices(similarity(look))
    assert [[1.0, -1.0], [-1.0, 1.0]] in found.values()


def test_a_method_of_whole_clips_has_no_segments_and_one_clip_nothing_to_compare(run):
    (folder,) = read_runs([run])
    look = look_at(folder, [], most_videos=8)
    found = matrices(similarity(look))
    assert [len(rows) for rows in found.values()] == [2, 2]
    with pytest.raises(InputError, match=r"eval\.num_clips"):
        similarity(replace(look, config=replace(look.config, num_clips=1)))
