import pytest

from launch import cli
from launch.report.write import write_report
from tests.launch.report.page import Page
from tests.launch.runs import pretrain_words

SMALL = {"eval.num_clips": 2, "eval.num_frames": 4, "eval.size": 16, "eval.resize": "null", "eval.ks": "[1,3]"}


@pytest.fixture(scope="session")
def run(shards, tmp_path_factory):
    """A run of four steps that was judged by all measures, with controls."""
    folder = tmp_path_factory.mktemp("runs") / "judged & <odd>"
    assert cli.main(pretrain_words(folder, shards, {"train.steps": 4, **SMALL})) == 0
    for command in ("retrieve", "knn", "linear"):
        assert cli.main([command, str(folder), "--controls"]) == 0
    return folder


@pytest.fixture(scope="session")
def other_run(shards, tmp_path_factory):
    """A run of two steps that nobody judged."""
    folder = tmp_path_factory.mktemp("others") / "unjudged"
    assert cli.main(pretrain_words(folder, shards, {"train.steps": 2, "train.seed": 3, **SMALL})) == 0
    return folder


@pytest.fixture(scope="session")
def page(run, tmp_path_factory):
    """The page of the judged run."""
    return Page(write_report([run], tmp_path_factory.mktemp("page") / "report.html"))


@pytest.fixture(scope="session")
def both(run, other_run, tmp_path_factory):
    """The page of both runs, with the pictures of the first."""
    return Page(write_report([run, other_run], tmp_path_factory.mktemp("page") / "report.html", pictures=1))
