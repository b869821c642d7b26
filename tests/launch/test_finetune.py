"""`intravid finetune`: what it begins with, what it is judged on, that it goes on, and what it refuses."""

import json
import math

import pytest
import torch
import yaml

from data_process.shards import ShardSet
from engine.checkpoint import latest_checkpoint, read_checkpoint, write_state
from engine.log import read_log
from launch import cli
from launch.classify import open_classifier, score_videos
from launch.config import load_run
from launch.evaluate import evaluation_clips
from launch.report.runs import read_runs
from tests.launch.runs import ROOT, TORCHRUN, assert_same_run, complete, pretrain_words, start, stop_at
from tests.sample_videos import small_dataset

RECIPE = ROOT / "configs" / "smoke" / "finetune.yaml"
TINY = {
    "method.backbone.width": 2,
    "method.clip.num_frames": 4,
    "method.clip.size": 16,
    "eval.num_frames": 4,
    "eval.size": 16,
    "eval.batch_size": 3,
    "train.steps": 6,
    "train.log_every": 1,
    "train.global_batch": 4,
    "train.tensorboard": "false",
    "pipeline.threads": 1,
    "dist.device": "cpu",
}


def words_of(run, shards, weights, *options, recipe=RECIPE, **settings):
    named = {name.replace("__", "."): value for name, value in settings.items()}
    overrides = {"run_dir": run, "data.root": shards, **TINY, **named}
    given = [f"--weights={weights}"] if weights else []
    return ["finetune", str(recipe), *given, *options, *(f"--{name}={value}" for name, value in overrides.items())]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """32 training and 16 test videos of two classes."""
    return small_dataset(tmp_path_factory.mktemp("tuning") / "shards", videos=48)


@pytest.fixture(scope="module")
def pretrained(shards, tmp_path_factory):
    """Two steps of IIC on the same backbone."""
    run = tmp_path_factory.mktemp("pretrained")
    assert cli.main(pretrain_words(run, shards, {"train.steps": 2})) == 0
    return run


@pytest.fixture(scope="module")
def tuned(shards, pretrained, tmp_path_factory):
    run = tmp_path_factory.mktemp("tuned")
    assert cli.main(words_of(run, shards, pretrained)) == 0
    return run


def ids(path):
    return path.read_text().split("\n")[:-1]


def test_the_backbone_begins_with_the_given_weights(shards, pretrained, tmp_path, capsys):
    words = words_of(tmp_path, shards, pretrained, "--select=none", method__frozen="true", train__steps=1)
    assert cli.main(words) == 0
    ours, theirs = (read_checkpoint(latest_checkpoint(run)).method for run in (tmp_path, pretrained))
    names = [name for name in ours if name.startswith("backbone.")]
    assert len(names) == 72
    assert all(torch.equal(ours[name], theirs[name]) for name in names)
    assert "72 of 72 entries, 0 missing" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["checkpoint", "exported", "averaged"])
def test_weights_may_be_a_checkpoint_an_export_or_averages(kind, shards, pretrained, tmp_path):
    options, weights = ["--select=none"], latest_checkpoint(pretrained)
    if kind == "exported":
        weights = tmp_path / "backbone.safetensors"
        assert cli.main(["export", str(pretrained), str(weights)]) == 0
    expected = read_checkpoint(latest_checkpoint(pretrained)).method
    if kind == "averaged":
        weights = tmp_path / "averaged"
        assert cli.main(pretrain_words(weights, shards, {"train.steps": 2, "train.ema": 0.5})) == 0
        expected = read_checkpoint(latest_checkpoint(weights)).ema
        options.append("--weights-averaged")
    words = words_of(tmp_path / "run", shards, weights, *options, method__frozen="true", train__steps=1)
    assert cli.main(words) == 0
    ours = read_checkpoint(latest_checkpoint(tmp_path / "run")).method
    name = next(name for name in expected if name.startswith("backbone.") and expected[name].ndim == 5)
    assert torch.equal(ours[name], expected[name])


def test_from_scratch_the_backbone_is_that_of_the_seed(shards, tmp_path):
    words = words_of(tmp_path, shards, "none", "--select=none", method__frozen="true", train__steps=1)
    assert cli.main(words) == 0
    from models.method import DatasetFacts

    expected = load_run(tmp_path / "config.yaml").build_method(DatasetFacts(1, 2)).backbone.state_dict()
    ours = read_checkpoint(latest_checkpoint(tmp_path)).method
    assert all(torch.equal(ours[f"backbone.{name}"], value) for name, value in expected.items())


def test_the_held_out_part_is_named_of_every_class_and_never_trained_on(shards, tuned):
    trained, held = ids(tuned / "trained-on.txt"), ids(tuned / "held-out.txt")
    assert sorted(trained + held) == sorted(ShardSet(shards, split="train").ids())
    assert (len(trained), len(held)) == (26, 6)
    assert {one[0] for one in held} == {"a", "b"}
    state = read_checkpoint(latest_checkpoint(tuned))
    assert state.facts.shard_digest == load_run(tuned / "config.yaml").config.data.open().digest


def test_the_logged_accuracy_is_that_of_each_held_out_video(tuned):
    judged = open_classifier(tuned / "checkpoints" / "best")
    held = judged.loaded.config.data.open_held_out()
    scores = score_videos(judged.network, held, judged.config).double()
    labels = torch.from_numpy(held.labels)
    found = {record["step"]: record["evals"] for record in read_log(tuned / "log.jsonl") if record["evals"]}
    state = read_checkpoint(latest_checkpoint(tuned / "checkpoints" / "best"))
    assert list(found) == [6]
    assert found[state.step]["val_accuracy"] == pytest.approx(float((scores.argmax(1) == labels).double().mean()))
    assert found[state.step]["val_loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(scores, labels)))
    assert state.best["measure"] == "eval/val_accuracy"


def test_the_best_model_is_tested_and_reported(tuned):
    assert cli.main(["test", str(tuned / "checkpoints" / "best")]) == 0
    (found,) = read_runs([tuned])
    assert found.latest("top1").query_videos == 16
    page = tuned / "page.html"
    assert cli.main(["report", str(tuned), "-o", str(page), "--pictures", "0"]) == 0
    assert "val accuracy" in page.read_text()


def test_a_share_of_the_labels_is_of_every_class_and_the_rest_is_not_read(shards, pretrained, tmp_path):
    words = words_of(tmp_path, shards, pretrained, "--label-fraction=0.25", data__held_out=0.3)
    assert cli.main(words) == 0
    trained, held = ids(tmp_path / "trained-on.txt"), ids(tmp_path / "held-out.txt")
    assert sorted(one[0] for one in trained) == ["a"] * 3 + ["b"] * 3
    assert sorted(one[0] for one in held) == ["a", "b"]
    assert len(load_run(tmp_path / "config.yaml").config.data.open()) == 6


def test_the_originals_choice_on_the_test_split_is_named_legacy_and_warned_of(shards, pretrained, tmp_path, capsys):
    assert cli.main(words_of(tmp_path, shards, pretrained, "--select=legacy", train__steps=2)) == 0
    said = capsys.readouterr().err
    assert "chosen on the 16 videos of the split test, as the originals do; what is measured on them is no test" in said
    assert not (tmp_path / "held-out.txt").exists()
    config = load_run(tmp_path / "config.yaml").config
    assert (config.validate.source, config.data.held_out) == ("legacy", 0.0)


def test_defaults_hold_out_a_tenth_and_keep_the_best_and_give_way_to_the_recipe(tmp_path):
    from launch.commands.finetune import command_parser, run_overrides

    def config(text, *words):
        path = tmp_path / "recipe.yaml"
        path.write_text("method:\n  class_path: models.methods.supervised.Supervised\n" + text)
        given, rest = command_parser().parse_known_args([str(path), "--weights=none", *words])
        overrides = run_overrides(given, rest)
        read = load_run(path, ["--method.backbone=models.backbones.r3d.R3D", *overrides]).config
        return read.validate.source, read.data.held_out, read.train.keep_best

    assert config("") == ("held_out", 0.1, "eval/val_accuracy")
    assert config("data:\n  held_out: 0.3\ntrain:\n  keep_best: eval/val_loss\n") == ("held_out", 0.3, "eval/val_loss")
    assert config("validate:\n  source: legacy\n") == ("legacy", 0.0, "eval/val_accuracy")
    assert config("validate:\n  source: legacy\n", "--select=held-out") == ("held_out", 0.1, "eval/val_accuracy")
    assert config("", "--select=none") == ("none", 0.0, "")
    assert config("", "--data.held_out=0.25") == ("held_out", 0.25, "eval/val_accuracy")


def test_clips_are_normalised_as_those_of_the_weights(shards, pretrained, tmp_path):
    exported = tmp_path / "weights.safetensors"
    assert cli.main(["export", str(pretrained), str(exported)]) == 0
    from launch.weights import write_weights
    from models.weights.card import ClipInput
    from models.weights.exported import Weights, load_weights

    weights, _ = load_weights(exported)
    card = ClipInput(4, 16, (0.5, 0.4, 0.3), (0.2, 0.2, 0.25))
    write_weights(exported, Weights(weights.backbone, weights.settings, card, weights.provenance))
    run = tmp_path / "run"
    words = words_of(run, shards, exported, train__stop_at_step=3)
    assert cli.main(words) == 0
    exported.unlink()
    assert cli.main(words[:-1]) == 0, "a run that goes on needs the weights no more"
    assert read_log(run / "log.jsonl")[-1]["step"] == 6
    method = yaml.safe_load((run / "config.yaml").read_text())["method"]["init_args"]
    assert (method["mean"], method["std"]) == ([0.5, 0.4, 0.3], [0.2, 0.2, 0.25])
    clips = evaluation_clips(open_classifier(run).config)
    assert (clips.mean, clips.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.25))


# It goes on.

CUT = {
    "schedule__name": "plateau",
    "schedule__patience": 0,
    "schedule__factor": 0.5,
    "validate__every_epochs": 0.34,
    "method__dropout": 0.5,
}


def test_a_fine_tuning_that_was_cut_ends_as_if_unbroken(shards, pretrained, tmp_path):
    settings = {**CUT, "train__steps": 10}
    assert cli.main(words_of(tmp_path / "whole", shards, pretrained, **settings)) == 0
    for step in (1, 4, 7, 0):
        words = words_of(tmp_path / "cut", shards, pretrained, **settings, train__stop_at_step=step)
        assert cli.main(words) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut", steps=10)
    records = read_log(tmp_path / "cut" / "log.jsonl")
    assert [bool(record["evals"]) for record in records] == [step % 2 == 0 for step in range(1, 11)]
    assert len({record["lr"] for record in records}) > 1, "a rate that never fell would prove nothing"


@pytest.mark.slow
def test_a_fine_tuning_that_was_killed_ends_as_if_unbroken(shards, pretrained, tmp_path):
    settings = {**CUT, "train__steps": 40, "train__save_every": 3}
    assert cli.main(words_of(tmp_path / "whole", shards, pretrained, **settings)) == 0
    words = words_of(tmp_path / "cut", shards, pretrained, **settings)
    assert stop_at(start(words), tmp_path / "cut", 11) < 40
    assert "going on from step" in complete(words)
    assert_same_run(tmp_path / "whole", tmp_path / "cut", steps=40)


@pytest.mark.slow
def test_a_fine_tuning_trains_and_judges_on_two_ranks(shards, pretrained, tmp_path):
    complete(words_of(tmp_path, shards, pretrained, train__sync_batch_norm="true"), under=TORCHRUN)
    last = read_log(tmp_path / "log.jsonl")[-1]
    assert last["step"] == 6
    assert last["evals"].keys() == {"val_accuracy", "val_loss"}
    assert read_checkpoint(latest_checkpoint(tmp_path)).world_size == 2


# It refuses.


def refused(capsys, words):
    assert cli.main([str(word) for word in words]) == 2
    return " ".join(capsys.readouterr().err.split())


def test_without_weights_it_says_what_they_may_be(shards, tmp_path, capsys):
    assert "--weights none to train from scratch" in refused(capsys, words_of(tmp_path, shards, None))
    assert not list(tmp_path.iterdir())


def test_a_folder_without_checkpoint_is_refused(shards, tmp_path, capsys):
    assert "there is no checkpoint in" in refused(capsys, words_of(tmp_path / "run", shards, tmp_path))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_without_backbone_is_refused(shards, pretrained, tmp_path, capsys):
    from dataclasses import replace

    state = read_checkpoint(latest_checkpoint(pretrained))
    bare = {name: value for name, value in state.method.items() if not name.startswith("backbone.")}
    path = tmp_path / "step-000000002.pt"
    write_state(path, replace(state, method=bare))
    assert "holds no backbone: none of its" in refused(capsys, words_of(tmp_path / "run", shards, path))


def test_weights_of_another_backbone_are_refused(shards, pretrained, tmp_path, capsys):
    words = words_of(tmp_path, shards, pretrained, method__backbone="models.backbones.c3d.C3D")
    said = refused(capsys, words)
    assert "holds weights of models.backbones.r3d.R3D, but method.backbone is models.backbones.c3d.C3D" in said
    said = refused(capsys, words_of(tmp_path, shards, pretrained, method__backbone__width=4))
    assert "another R3D than method.backbone asks for: width 2 instead of 4" in said


def test_a_file_of_another_program_is_refused_with_the_way_in(shards, tmp_path, capsys):
    path = tmp_path / "theirs.pth"
    torch.save({"conv1.weight": torch.zeros(2)}, path)
    assert "come in by intravid import" in refused(capsys, words_of(tmp_path / "run", shards, path))


def test_a_share_of_the_labels_that_leaves_nothing_to_hold_out_is_refused(shards, pretrained, tmp_path, capsys):
    said = refused(capsys, words_of(tmp_path, shards, pretrained, "--label-fraction=0.01"))
    assert "2 classes of" in said
    assert "have too few labelled videos (2 of 2 classes in all)" in said
    assert "Raise data.label_fraction" in said
    said = refused(capsys, words_of(tmp_path, shards, pretrained, "--label-fraction=0"))
    assert "data.label_fraction (0.0) must be a share above 0" in said


def test_validation_classes_without_training_videos_are_refused(pretrained, tmp_path, capsys):
    shards = small_dataset(tmp_path / "three", classes=("a", "b", "c"), videos=36)
    only = tmp_path / "ids.txt"
    only.write_text("".join(f"{one}\n" for one in ShardSet(shards, split="train").ids() if not one.startswith("c")))
    words = words_of(tmp_path / "run", shards, pretrained, "--select=legacy", data__subset=only)
    said = refused(capsys, words)
    assert "1 classes of the 12 validation videos" in said
    assert "have no training video: c; train on all of them" in said


@pytest.mark.parametrize("source", ["val", "legacy"])
def test_a_split_of_no_videos_is_refused(source, shards, pretrained, tmp_path, capsys):
    words = words_of(tmp_path, shards, pretrained, f"--select={source}", eval__query="val")
    said = refused(capsys, words)
    assert "holds no split 'val'; its splits are: train, test" in said


def test_validation_on_what_is_trained_on_is_refused(shards, pretrained, tmp_path, capsys):
    words = words_of(tmp_path, shards, pretrained, "--select=legacy", eval__query="train")
    assert "32 of the 32 videos of split train are in the training list" in refused(capsys, words)


def test_validation_of_a_method_without_classes_is_refused(shards, tmp_path, capsys):
    words = [*pretrain_words(tmp_path, shards), "--data.held_out=0.2", "--validate.source=held_out"]
    assert "IIC tells no classes; set validate.source none" in refused(capsys, words)


def test_changing_the_share_of_a_run_that_goes_on_is_refused(shards, tuned, pretrained, capsys):
    words = words_of(tuned, shards, pretrained, train__steps=9, data__held_out=0.4)
    assert "the shard set (data.root), by its digest" in refused(capsys, words)


def test_going_on_with_other_weights_is_refused(shards, tuned, capsys):
    said = refused(capsys, words_of(tuned, shards, "none", train__steps=9))
    assert "began with the weights" in said
    assert "not none; leave --weights as it was" in said


def test_it_can_be_submitted(shards, pretrained, tmp_path, capsys):
    words = words_of(tmp_path / "run", shards, pretrained, "--label-fraction=0.5")
    assert cli.main(["submit", *words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"every task runs: intravid finetune {RECIPE}" in said
    assert f"--weights={pretrained}" in said
    assert "intravid-run" in said


# Online kNN.


def test_knn_is_measured_while_a_method_is_pretrained(shards, tmp_path):
    settings = {"train.steps": 4, "online.every_epochs": 0.5, "online.num_videos": 10, "online.neighbours": 3}
    small = {"eval.num_frames": 4, "eval.size": 16, "eval.resize": "null", "train.keep_best": "eval/knn_accuracy"}
    assert cli.main(pretrain_words(tmp_path, shards, settings | small)) == 0
    found = {record["step"]: record["evals"] for record in read_log(tmp_path / "log.jsonl") if record["evals"]}
    assert list(found) == [2, 4]
    assert all(0 <= values["knn_accuracy"] <= 1 and math.isfinite(values["knn_accuracy"]) for values in found.values())
    state = json.loads(json.dumps(dict(read_checkpoint(latest_checkpoint(tmp_path)).best)))
    assert state["value"] == max(values["knn_accuracy"] for values in found.values())


def test_online_knn_needs_two_classes(tmp_path, capsys):
    shards = small_dataset(tmp_path / "shards", classes=("a",), videos=24)
    words = [*pretrain_words(tmp_path / "run", shards, {"train.steps": 1}), "--online.every_epochs=1"]
    assert "needs labelled videos of at least two classes" in refused(capsys, words)


def test_the_best_model_is_named_with_the_command_that_tests_it(shards, pretrained, tmp_path, capsys):
    assert cli.main(words_of(tmp_path, shards, pretrained, train__steps=2)) == 0
    said = capsys.readouterr().err
    assert (
        f"best so far: step 2, eval/val_accuracy 0.5; intravid test {tmp_path / 'checkpoints' / 'best'} judges it"
        in (" ".join(said.split()))
    )


def test_groups_of_rates_are_read_from_the_command_line(tmp_path):
    assert load_run(RECIPE, ["--optim.rates={backbone.: 0.1}"]).config.optim.rates == {"backbone.": 0.1}
