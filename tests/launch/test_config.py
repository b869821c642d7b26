from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml

from data_process.errors import InputError
from launch.config import load_run
from models.method import DatasetFacts
from tests.launch.recipes import parameters, reduced

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path for path in CONFIGS.rglob("*.yaml") if "\nmethod:" in path.read_text(encoding="utf-8"))
"""Those of whole runs; what is in configs/cluster and of evaluation in configs/eval sets a part."""
IIC = CONFIGS / "smoke" / "iic.yaml"


def settings(config):
    names = ("data", "pipeline", "train", "optim", "schedule", "eval", "finetune", "validate", "online")
    return {name: asdict(getattr(config, name)) for name in names}


@pytest.mark.parametrize("recipe", parameters(RECIPES), ids=lambda path: path.stem)
def test_the_configuration_as_used_reads_back_as_the_same_run(recipe, tmp_path):
    """Once `eval.resize: null` was left out of config.yaml, and runs were judged by a small patch of each frame."""
    loaded = load_run(recipe, ["--optim.lr", "0.003"])
    written = tmp_path / "config.yaml"
    written.write_text(loaded.text)
    again = load_run(written)
    assert again.plain == loaded.plain
    assert settings(again.config) == settings(loaded.config)
    assert loaded.text.startswith("#")


@pytest.mark.parametrize("recipe", parameters(RECIPES), ids=lambda path: path.stem)
def test_first_weights_depend_on_the_seed_alone(recipe, tmp_path):
    small = reduced(recipe, run=tmp_path, shards="shards")
    loaded = load_run(small)
    torch.manual_seed(1)
    one = loaded.build_method(DatasetFacts(4, 2)).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = loaded.build_method(DatasetFacts(4, 2)).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[key], two[key]) for key in one)
    other = load_run(small, ["--train.seed", "77"]).build_method(DatasetFacts(4, 2)).state_dict()
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        (["--optim.lx", "2"], "optim.lr"),
        (["--train.global_bach", "4"], "train.global_batch"),
        (["--method.num_negativs", "4"], "method.num_negatives"),
        (["--optim.lr", "fast"], "optim.lr"),
        (["--pipeline.backend", "dalli"], "pipeline.backend"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_a_wrong_override_is_refused_by_its_full_name(override, named):
    with pytest.raises(InputError, match=named.replace(".", r"\.")):
        load_run(IIC, override)


def test_a_wrong_key_in_a_recipe_is_refused_by_its_full_name(tmp_path):
    content = yaml.safe_load(IIC.read_text())
    content["train"]["global_bach"] = 3
    path = tmp_path / "typo.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="global_batch"):
        load_run(path)


def test_a_run_of_before_keeps_its_settings_of_the_cluster(tmp_path):
    """They stood under `cluster:`."""
    old = yaml.safe_load(load_run(IIC, ["--launch.nodes=3", "--optim.lr=0.003"]).text)
    old["cluster"] = old.pop("launch")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    config = load_run(tmp_path / "config.yaml", ["--launch.partition=gpu"]).config
    assert (config.launch.nodes, config.launch.partition, config.optim.lr) == (3, "gpu", 0.003)


def test_a_missing_recipe_is_named():
    with pytest.raises(InputError, match=r"no recipe nowhere\.yaml"):
        load_run(Path("nowhere.yaml"))
