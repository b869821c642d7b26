"""Every recipe of configs/eval/ for a trained network: its command runs, reduced; its head says where it comes from."""

import re
import shlex

import pytest
import torch
import yaml

from data_process.records import VideoRecord
from engine.features import EvalConfig, clip_features
from launch import cli
from launch.config import load_run
from launch.eval_recipe import recipe_words
from launch.evaluate import evaluation_clips
from launch.results import read_results
from models.backbones.c3d import C3D
from models.backbones.i3d import I3D
from models.backbones.r3d import R3D
from models.backbones.r21d import R21D
from tests.launch.recipes import CONFIGS
from tests.launch.runs import RECIPE, ROOT, pretrain_words

KINDS = ("retrieve", "test", "extract", "knn", "linear")
RECIPES = sorted(path for kind in KINDS for path in (CONFIGS / "eval").glob(f"{kind}_*.yaml"))
REDUCED = {"num_frames": 4, "size": 16}


def name(recipe):
    return recipe.stem


def head(recipe):
    """The parts of a recipe's head comment."""
    found = re.match(r"(?:#.*\n)+", recipe.read_text(encoding="utf-8"))
    assert found, "a recipe opens with a comment"
    comment = " ".join(line.lstrip("# ") for line in found[0].splitlines())
    parts = r"(Follows|Differs|Command|Expect):\s+(.*?)(?=\s+(?:Follows|Differs|Command|Expect):|$)"
    return dict(re.findall(parts, comment))


def settings(recipe):
    return yaml.safe_load(recipe.read_text(encoding="utf-8"))["eval"]


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_every_recipe_of_evaluation_names_paper_number_source_and_command(recipe):
    parts = head(recipe)
    assert parts.keys() == {"Follows", "Differs", "Command", "Expect"}
    assert re.search(r"arXiv \d{4}\.\d{4,5}", parts["Follows"]), "the paper, as arXiv number"
    kind = recipe.stem.partition("_")[0]
    assert re.match(rf"intravid {kind} runs/\w+ --data\.root ", parts["Command"])
    assert f" --config configs/eval/{recipe.name}" in parts["Command"]
    assert re.search(r"\d\d\.\d|[Nn]o number", parts["Expect"]), "the published number, or none"
    assert re.search(r"README|paper", parts["Expect"]), "where it was published"
    assert "Not measured here" in parts["Expect"]


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory):
    """Runs of one step: of a method, and of a classifier; videos here are wider than high."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    for kind, recipe in (("method", RECIPE), ("classifier", "configs/smoke/supervised.yaml")):
        command, _, *words = pretrain_words(folder / kind, shards, {"train.steps": 1})
        assert cli.main([command, str(ROOT / recipe), *words]) == 0
        made[kind] = folder / kind
    return made


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_its_command_runs_at_reduced_size_with_its_settings(recipe, runs, shards, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    program, kind, _, *words = shlex.split(head(recipe)["Command"])
    assert program == "intravid"
    run = runs["classifier" if kind == "test" else "method"]
    words[words.index("--data.root") + 1] = str(shards)
    if kind == "extract":
        words[words.index("-o") + 1] = str(tmp_path)
    given = settings(recipe)
    resize = given["resize"] if isinstance(given["resize"], int) else min(given["resize"])
    shorter = -(-resize * REDUCED["size"] // given["size"])
    reduced = REDUCED | {"resize": shorter if isinstance(given["resize"], int) else [shorter, 2 * shorter]}
    flags = [f"--eval.{key}={value}" for key, value in reduced.items()]
    assert cli.main([kind, str(run), *words, *flags]) == 0
    if kind == "extract":
        assert (tmp_path / "test.npy").is_file()
        return
    used = read_results(run)[kind].settings
    assert {key: used[key] for key in given} == {**given, **reduced}
    assert used.get("merge") == (words[words.index("--merge") + 1] if "--merge" in words else None)


def config_of(recipe) -> EvalConfig:
    return load_run(ROOT / RECIPE, recipe_words(CONFIGS / "eval" / recipe)).config.eval


@pytest.mark.parametrize(
    ("recipe", "backbones", "numbers"),
    [
        ("retrieve_iic.yaml", (R3D, R21D, C3D), 9216),
        ("retrieve_dualvar.yaml", (R21D,), 512),
        ("retrieve_cstp.yaml", (R21D,), 512),
        ("extract_vtdl.yaml", (I3D,), 1024),
    ],
)
def test_features_have_the_published_length(recipe, backbones, numbers):
    config = config_of(recipe)
    clips = torch.zeros(1, 3, config.num_frames, config.size, config.size, device="meta")
    for kind in backbones:
        with torch.device("meta"):
            network = kind().eval()
        assert clip_features(network, clips, config).shape == (1, numbers), kind


@pytest.mark.parametrize(
    ("recipe", "clips", "frames", "span"),
    [
        ("retrieve_iic.yaml", 10, 16, 16),
        ("test_iic.yaml", 10, 16, 16),
        ("retrieve_dualvar.yaml", 10, 16, 61),
        ("test_dualvar.yaml", 10, 16, 31),
        ("test_vtdl_one_clip.yaml", 1, 64, 64),
        ("test_vtdl_two_windows.yaml", 2, 64, 64),
        ("test_vtdl_ten_clips.yaml", 10, 64, 64),
        ("extract_vtdl.yaml", 1, 64, 64),
        ("test_cstp.yaml", 5, 16, 61),  # 250 frames: starts 0, 60, 120, 180 and the last, 189
        ("retrieve_cstp.yaml", 10, 16, 61),
        ("test_ten_clips_three_crops.yaml", 30, 16, 16),
    ],
)
def test_a_video_of_250_frames_gives_the_clips_of_the_protocol(recipe, clips, frames, span):
    config = config_of(recipe)
    plans = evaluation_clips(config).plans(VideoRecord("a", 0, "test", "jpeg", 250, 25.0, 256, 340), 3)
    seen = [clip for plan in plans for clip in plan.clips]
    assert len(seen) == clips
    assert {len(clip.frames) for clip in seen} == {frames}
    assert {clip.frames[-1] - clip.frames[0] + 1 for clip in seen} == {span}
    sides = {(clip.box.height / 256, clip.box.width / 340) for clip in seen}
    resized = config.resize if isinstance(config.resize, tuple) else (config.resize, config.resize * 340 // 256)
    for down, across in sides:
        assert down == pytest.approx(config.size / resized[0], abs=0.01)
        assert across == pytest.approx(config.size / resized[1], abs=0.01)
