"""A recipe of evaluation sets `eval` of any run; the command line wins."""

import pytest

from data_process.errors import InputError
from launch import cli
from launch.config import load_run
from launch.eval_recipe import recipe_words
from launch.results import read_results
from tests.launch.runs import RECIPE, ROOT, pretrain_words

TEXT = """\
# A protocol.
eval:
  num_clips: 3
  sampling: capped
  resize: null
  modality: residual
  ks: [1, 2]
  mean: [0.5, 0.4, 0.3]
  drop_last_frame: true
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "protocol.yaml"
    path.write_text(TEXT)
    return path


def test_every_kind_of_value_arrives(recipe):
    config = load_run(ROOT / RECIPE, recipe_words(recipe)).config.eval
    assert (config.num_clips, config.sampling, config.resize, config.modality) == (3, "capped", None, "residual")
    assert (tuple(config.ks), tuple(config.mean), config.drop_last_frame) == ((1, 2), (0.5, 0.4, 0.3), True)
    assert recipe_words(None) == []


def test_a_run_is_judged_by_the_recipe_and_flags_win_wherever_they_stand(recipe, shards, tmp_path):
    run = tmp_path / "run"
    small = {"eval.num_frames": 4, "eval.size": 16, "eval.num_clips": 1, "eval.feature": "pooled"}
    assert cli.main(pretrain_words(run, shards, {"train.steps": 1, **small})) == 0
    flags = ["--eval.num_clips=2", "--config", str(recipe), "--no-one-frame"]
    for command in ("retrieve", "knn"):
        assert cli.main([command, str(run), *flags]) == 0
        settings = read_results(run)[command].settings
        assert (settings["num_clips"], settings["sampling"], settings["feature"]) == (2, "capped", "pooled")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("eval:\n  size: 16\ntrain:\n  steps: 3\n", "sets `eval:` alone, this one eval, train"),
        ("- 3\n", "sets `eval:` alone, this one list"),
        ("eval: [\n", "is not YAML"),
    ],
)
def test_a_recipe_of_something_else_is_refused(tmp_path, text, told):
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=told):
        recipe_words(path)


def test_a_missing_recipe_and_a_wrong_name_in_one_are_told(recipe, capsys, tmp_path):
    assert cli.main(["knn", str(ROOT / RECIPE), "--config", "nowhere.yaml"]) == 2
    assert "--config nowhere.yaml does not exist" in capsys.readouterr().err
    recipe.write_text("eval:\n  num_clip: 3\n")
    assert cli.main(["extract", str(ROOT / RECIPE), "-o", str(tmp_path), "--config", str(recipe)]) == 2
    assert "eval.num_clip is not a setting; did you mean eval.num_clips?" in capsys.readouterr().err
