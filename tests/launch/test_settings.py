import textwrap
from pathlib import Path

import pytest
import yaml

from data_process.errors import InputError
from launch.config import RunConfig, load_run
from launch.settings import merged, refuse_unknown

SMOKE = Path(__file__).parents[2] / "configs" / "smoke" / "iic.yaml"


def refused(*overrides):
    with pytest.raises(InputError) as error:
        load_run(SMOKE, overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("--optim.lrr=1", "optim.lr"),
        ("--trian.steps=3", "train.steps"),
        ("--steps=3", "train.steps"),
        ("--method.num_negativs=3", "method.num_negatives"),
        ("--method.init_args.num_negativs=3", "method.num_negatives"),
        ("--method.clip.sise=3", "method.clip.size"),
        ("--method.clip.colour.huee=3", "method.clip.colour.hue"),
        ("--method.backbone.widht=3", "method.backbone.width"),
        ("--launch.partion=gpu", "launch.partition"),
    ],
)
def test_a_wrong_name_is_told_in_full_with_the_nearest(override, near):
    name = override[2:].partition("=")[0].replace("init_args.", "")
    assert refused(override) == f"{name} is not a setting; did you mean {near}?"
    assert name in refused(*override.split("="))  # the value as a word of its own


def test_a_name_like_no_other_gets_no_proposal():
    assert refused("--zzzzqqq=1") == "zzzzqqq is not a setting"


def test_a_wrong_name_in_a_recipe_is_told_in_full(tmp_path):
    content = yaml.safe_load(SMOKE.read_text())
    content["method"]["init_args"]["backbone"]["init_args"]["widht"] = 3
    path = tmp_path / "typo.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"^method\.backbone\.widht .* method\.backbone\.width\?"):
        load_run(path)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("--optim.lr=fast", "optim.lr: expected float, got fast"),
        ("--train.steps=many", "train.steps: expected int or null, got many"),
        ("--eval.feature=last", "eval.feature: expected one of 'pooled', 'conv', got last"),
        ("--method.backbone.width=wide", "method.backbone.width: expected int, got wide"),
        ("--method.clip.area=x", "method.clip.area: expected tuple[float, float] or null, got x"),
        ("--train.save_every=0", "train.save_every must be at least 1, got 0"),
    ],
)
def test_a_value_of_another_type_is_told_with_the_full_name(override, told):
    assert told in refused(override)


def test_a_class_that_is_not_there_is_told_with_the_nearest():
    told = "method.class_path: models.methods.iic defines no IICC; did you mean models.methods.iic.IIC?"
    assert refused("--method.class_path=models.methods.iic.IICC") == told
    assert "cannot import 'models.nowhere'" in refused("--method.backbone.class_path=models.nowhere.R3D")


def test_a_class_outside_the_repository_brings_its_own_settings(tmp_path, monkeypatch):
    (tmp_path / "foreign_method.py").write_text(
        textwrap.dedent("""
            from models.backbone import Backbone
            from models.method import DatasetFacts, Method

            class Foreign(Method):
                def __init__(self, facts: DatasetFacts, backbone: Backbone, *, sharpness: float = 1.0) -> None:
                    super().__init__()
                    self.backbone, self.sharpness = backbone, sharpness

                @property
                def clip_format(self): ...
                def planner(self): ...
                def forward(self, batch): ...
            """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--method=foreign_method.Foreign", "--method.backbone=models.backbones.r3d.R3D"]
    loaded = load_run(SMOKE, [*words, "--method.sharpness=2.5"])
    assert loaded.plain["method"]["init_args"]["sharpness"] == 2.5
    assert refused(*words, "--method.sharpnes=2").endswith("did you mean method.sharpness?")
    assert refused(*words, "--method.facts=2").startswith("method.facts is not a setting")  # launch gives them


def test_overrides_come_after_the_recipe_and_init_args_may_be_left_out():
    recipe = {"method": {"class_path": "a.B", "init_args": {"x": 1, "c": {"class_path": "d.E", "init_args": {"y": 2}}}}}
    tree = merged(recipe, ["--method.c.y", "3", "--method.init_args.z=4", "--train.steps=5"])
    assert tree == {
        "method": {"class_path": "a.B", "x": 1, "c": {"class_path": "d.E", "y": "3"}, "z": "4"},
        "train": {"steps": "5"},
    }


def test_every_recipe_of_the_repository_knows_its_names():
    recipes = sorted(path for path in (SMOKE.parents[1]).rglob("*.yaml") if path.parent.name != "cluster")
    assert recipes
    for recipe in recipes:
        refuse_unknown(RunConfig, merged(yaml.safe_load(recipe.read_text()), ()))
