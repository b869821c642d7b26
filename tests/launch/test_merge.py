"""Joint retrieval: a second modality or run beside the first, against features that were extracted one by one."""

import json

import numpy as np
import pytest

from launch import cli
from launch.evaluate import RANDOM
from launch.results import read_results
from launch.settings import of_section
from tests.launch.runs import pretrain_words

KS = (1, 2, 3)
SMALL = {"num_clips": 2, "num_frames": 4, "size": 16, "resize": "null", "ks": str(list(KS)), "drop_last_frame": "true"}


def small_run(folder, shards, **settings):
    """A run of one step."""
    given = {"train.steps": 1, **{f"eval.{name}": value for name, value in SMALL.items()}, **settings}
    assert cli.main(pretrain_words(folder, shards, given)) == 0
    return folder


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("run"), shards)


def extracted(run, out, *words):
    """Features and labels of gallery and query, as `intravid extract` writes them."""
    assert cli.main(["extract", str(run), "-o", str(out), *words]) == 0
    parts = []
    for split in ("train", "test"):
        index = json.loads((out / f"{split}.json").read_text())
        parts.append((np.load(out / f"{split}.npy").astype(np.float64), np.array(index["labels"])))
    return parts


def recalls(gallery, query):
    """Per cent of queries with their class among the k nearest, one by one."""
    found = {}
    for k in KS:
        hits = 0
        for values, label in zip(*query, strict=True):
            lengths = np.linalg.norm(gallery[0], axis=1) * np.linalg.norm(values)
            nearest = np.argsort(-(gallery[0] @ values) / lengths, kind="stable")[:k]
            hits += label in gallery[1][nearest]
        found[f"retrieve@{k}"] = 100 * hits / len(query[1])
    return found


def beside(first, second):
    return [(np.hstack([one[0], other[0]]), one[1]) for one, other in zip(first, second, strict=True)]


@pytest.mark.parametrize("modality", ["residual", "flow-u", "flow-v"])
def test_a_second_modality_of_the_same_network_stands_behind_the_first(run, flow_shards, tmp_path, modality, capsys):
    flow = [f"--data.flow={flow_shards}"] if modality.startswith("flow") else []
    rgb = extracted(run, tmp_path / "rgb")
    other = extracted(run, tmp_path / modality, f"--eval.modality={modality}", *flow)
    assert not np.allclose(rgb[0][0], other[0][0])
    assert cli.main(["retrieve", str(run), "--merge", modality, *flow]) == 0
    results = read_results(run)["retrieve"]
    assert results.judged == pytest.approx(recalls(*beside(rgb, other)))
    assert results.settings["merge"] == modality
    assert (results.weights, results.step) == (f"step 1, with {modality}", 1)
    assert f"step 1) + {modality}" in capsys.readouterr().out
    assert results.one_frame.keys() == results.judged.keys()


def test_another_run_is_seen_with_its_own_settings(run, shards, tmp_path):
    other = small_run(tmp_path / "other", shards, **{"train.seed": 5, "eval.modality": "residual", "eval.stride": 2})
    parts = extracted(run, tmp_path / "one"), extracted(other, tmp_path / "two")
    assert cli.main(["retrieve", str(run), "--merge", str(other), "--controls"]) == 0
    results = read_results(run)["retrieve"]
    assert results.judged == pytest.approx(recalls(*beside(*parts)))
    assert results.settings["merge"] == "other (step 1)"
    assert set(results.rows) >= {RANDOM}


def test_settings_of_evaluation_on_the_command_line_hold_for_both_but_for_the_modality(run, shards, tmp_path):
    other = small_run(tmp_path / "other", shards, **{"eval.modality": "residual"})
    words = ["--eval.num_clips=3", "--eval.modality", "rgb"]
    parts = extracted(run, tmp_path / "one", *words), extracted(other, tmp_path / "two", words[0])
    assert cli.main(["retrieve", str(run), "--merge", str(other), *words]) == 0
    assert read_results(run)["retrieve"].judged == pytest.approx(recalls(*beside(*parts)))


def test_words_of_a_section_are_found_in_both_their_forms():
    words = ["--eval.size=4", "--data.root", "x", "--eval.ks", "[1]", "--evaluate.size=3", "--eval.modality", "rgb"]
    assert of_section(words, "eval") == ["--eval.size=4", "--eval.ks", "[1]", "--eval.modality", "rgb"]
    assert of_section(words, "eval", without=("modality",)) == ["--eval.size=4", "--eval.ks", "[1]"]


@pytest.mark.parametrize("command", ["knn", "linear"])
def test_knn_and_linear_probe_take_the_merged_features(run, command):
    assert cli.main([command, str(run), "--merge", "residual"]) == 0
    assert read_results(run)[command].settings["merge"] == "residual"


@pytest.mark.parametrize(
    ("merge", "told"),
    [
        ("rgb", "eval.modality is rgb already"),
        ("sound", "neither a modality (rgb, residual, flow-u, flow-v) nor a run folder"),
        ("flow-v", "eval.modality flow-v needs data.flow"),
    ],
)
def test_what_cannot_be_merged_is_refused(run, capsys, merge, told):
    assert cli.main(["retrieve", str(run), "--merge", merge]) == 2
    assert told in capsys.readouterr().err
