from pathlib import Path

import pytest
import yaml

from launch.config import load_run
from launch.report.published import PUBLISHED
from launch.report.recipes import differences, nearest_published

ROOT = Path(__file__).parents[3]


def used(path, *overrides):
    return load_run(ROOT / path, overrides).plain


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.recipe)
def test_published_numbers_are_those_of_the_page_of_methods(one):
    assert (ROOT / "configs" / "pretrain" / f"{one.recipe}.yaml").is_file()
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    if one.retrieval:
        assert " / ".join(f"{value:.1f}" for value in one.retrieval) in page
    for value in one.finetuned:
        assert value is None or f"{value:.1f}" in page


@pytest.mark.parametrize(
    "name", ["iic_r3d_shuffle_ucf101", "iic_r21d_ucf101", "vtdl_i3d_ucf101", "dualvar_moco_r21d_ucf101"]
)
def test_a_run_of_a_published_recipe_is_compared_with_it_and_differs_in_nothing(name):
    settings = used(f"configs/pretrain/{name}.yaml")
    assert nearest_published(settings).recipe == name
    assert differences(settings, name) == []


def test_what_differs_is_named_with_both_values():
    settings = used("configs/pretrain/iic_r3d_ucf101.yaml", "--optim.lr=0.5", "--method.num_negatives=7", "--run_dir=x")
    assert sorted(differences(settings, "iic_r3d_ucf101")) == [
        ("method.num_negatives", "7", "1024"),
        ("optim.lr", "0.5", "0.01"),
    ]


def test_the_network_decides_before_all_else_which_recipe_is_near():
    settings = used("configs/motion/iic.yaml")
    assert "r3d" in nearest_published(settings).recipe
    settings["method"]["init_args"]["backbone"]["class_path"] = "models.backbones.c3d.C3D"
    assert "c3d" in nearest_published(settings).recipe


@pytest.mark.parametrize("framework", ["simclr", "moco"])
def test_a_run_is_compared_with_a_recipe_of_its_framework(framework):
    settings = used("configs/motion/dualvar.yaml", f"--method.framework={framework}")
    assert f"dualvar_{framework}" in nearest_published(settings).recipe


def test_methods_without_published_numbers_have_no_recipe():
    assert nearest_published(used("configs/motion/simclr.yaml")) is None
    assert nearest_published(used("configs/motion/cstp.yaml")) is None
    assert nearest_published({}) is None


def test_settings_as_a_run_stores_them_are_understood(run):
    settings = yaml.safe_load((run / "config.yaml").read_text())
    found = {name: (mine, theirs) for name, mine, theirs in differences(settings, "iic_r3d_ucf101")}
    assert found["method.backbone.width"] == ("2", "64")
    assert "run_dir" not in found
