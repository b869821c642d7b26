import json
from dataclasses import replace

import pytest
import torch

from data_process.errors import InputError
from data_process.shards import ShardSet
from engine.checkpoint import latest_checkpoint, read_checkpoint, write_state
from launch import cli
from launch.classify import labels_by_name, open_classifier, score_videos
from launch.lists import refuse_empty
from launch.report.runs import read_runs
from launch.results import read_results
from pipelines.evaluation import evaluation_batches
from pipelines.loader import PipelineConfig
from tests.launch.runs import ROOT, TORCHRUN, complete, pretrain_words
from tests.sample_videos import small_dataset

SMALL = {"num_clips": 2, "num_frames": 4, "size": 16, "resize": "null", "ks": "[1,3]", "batch_size": 3}


def words_of(recipe, run, shards, steps=3):
    settings = {"train.steps": steps, **{f"eval.{name}": value for name, value in SMALL.items()}}
    command, _, *rest = pretrain_words(run, shards, settings)
    return [command, str(ROOT / "configs" / "smoke" / recipe), *rest]


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    """A run of a classifier, three steps long."""
    folder = tmp_path_factory.mktemp("classifier")
    assert cli.main(words_of("supervised.yaml", folder, shards)) == 0
    return folder


@pytest.mark.parametrize("average", ["logits", "probabilities"])
@pytest.mark.parametrize("crops", [1, 3])
def test_a_trained_classifier_is_judged_clip_by_clip_and_crop_by_crop(run, shards, capsys, average, crops):
    words = [str(run), f"--eval.average={average}", f"--eval.crops={crops}", "--eval.resize=20"]
    assert cli.main(["test", *words]) == 0
    results = read_results(run)["test"]
    judged, videos = open_classifier(run, words[1:]), ShardSet(shards, split="test")
    expected = by_hand(judged, videos, average)
    right = (expected.argmax(1) == torch.from_numpy(videos.labels)).double()
    assert results.judged["top1"] == pytest.approx(100 * float(right.mean()))
    assert sum(count for row in results.confusion.values() for count in row.values()) == len(videos) == 8
    assert sum(row.get(name, 0) for name, row in results.confusion.items()) == int(right.sum())
    torch.testing.assert_close(score_videos(judged.network, videos, judged.config), expected, rtol=0, atol=1e-5)
    assert f"{results.judged['top1']:.1f}" in capsys.readouterr().out


def by_hand(judged, videos, average):
    """Scores of each video alone, every clip and crop of it alone."""
    from launch.evaluate import evaluation_clips

    network, rows = judged.network.eval(), []
    for index in range(len(videos)):
        (batch,) = evaluation_batches(
            videos, evaluation_clips(judged.config), config=PipelineConfig(), indices=[index], batch_size=1
        )
        assert len(batch.clips) == 2 * judged.config.crops
        with torch.no_grad():
            logits = [network.classifier(network.backbone.pooled(clip))[0] for clip in batch.clips]
        rows.append(sum(one if average == "logits" else one.softmax(0) for one in logits) / len(logits))
    return torch.stack(rows)


def test_the_report_finds_the_test(run):
    assert cli.main(["test", str(run)]) == 0
    (found,) = read_runs([run])
    assert found.latest("top1").query_videos == 8
    assert "8 test videos" in found.latest("top1").title
    page = run / "test.html"
    assert cli.main(["report", str(run), "-o", str(page), "--no-network"]) == 0
    assert "test, top 1" in page.read_text()
    assert "Confusion of the test" in page.read_text()


def test_the_control_judges_single_frames_of_six_places_apart(run, shards):
    assert cli.main(["test", str(run), "--controls"]) == 0
    found = read_results(run)["test"]
    judged, videos = open_classifier(run), ShardSet(shards, split="test")
    single, right = replace(judged.config, num_clips=1), []
    for place in (1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12):
        scores = score_videos(judged.network, videos, single, frozen_frame=place)
        right.append(float((scores.argmax(1) == torch.from_numpy(videos.labels)).double().mean()))
    assert found.one_frame["top1"] == pytest.approx(100 * sum(right) / 6)
    assert cli.main(["test", str(run)]) == 0
    assert read_results(run)["test"].one_frame == {}


def test_classes_are_matched_by_name_not_by_number(tmp_path, shards):
    turned = small_dataset(tmp_path / "turned", classes=("b", "a"), videos=9)
    videos, own = ShardSet(turned, split="test"), ShardSet(shards, split="test")
    assert labels_by_name(own, ("a", "b")).tolist() == own.labels.tolist()
    names = [videos.classes[label] for label in videos.labels]
    assert [("a", "b")[label] for label in labels_by_name(videos, ("a", "b"))] == names


def test_a_class_that_was_not_trained_on_is_refused(run, tmp_path, capsys):
    strange = small_dataset(tmp_path / "three", classes=("a", "b", "c"), videos=9)
    assert cli.main(["test", str(run), f"--data.root={strange}"]) == 2
    said = capsys.readouterr().err
    assert "1 classes of" in said
    assert "not among the 2 that the classifier was trained on: c" in said


@pytest.mark.parametrize("query", ["train", "all"])
def test_a_test_list_with_trained_videos_is_refused(run, capsys, query):
    assert cli.main(["test", str(run), f"--eval.query={query}"]) == 2
    assert "16 of the" in (said := capsys.readouterr().err)
    assert "are in the training list" in said


def test_a_query_of_the_gallery_is_refused(run, capsys):
    assert cli.main(["knn", str(run), "--eval.query=train"]) == 2
    assert "16 of the 16 videos of split train are in the gallery" in capsys.readouterr().err


def test_a_run_without_classes_is_refused(shards, tmp_path, capsys):
    assert cli.main(words_of("iic.yaml", tmp_path / "run", shards, steps=1)) == 0
    assert cli.main(["test", str(tmp_path / "run")]) == 2
    assert "is a run of IIC, which tells no classes" in capsys.readouterr().err


class NoVideos:
    """What a dataset outside of the repository might be."""

    name, split = "elsewhere", "test"

    def __len__(self):
        return 0


def test_no_video_is_refused(run, tmp_path, capsys):
    for refuse in (refuse_empty, lambda videos: labels_by_name(videos, ("a", "b"))):
        with pytest.raises(InputError, match="split test holds 0 videos"):
            refuse(NoVideos())
    untested = small_dataset(tmp_path / "untested", videos=1)
    assert cli.main(["test", str(run), f"--data.root={untested}"]) == 2
    assert "its splits are" in capsys.readouterr().err


def test_a_checkpoint_without_a_backbone_is_refused(run, tmp_path, capsys):
    state = read_checkpoint(latest_checkpoint(run))
    folder = tmp_path / "headless" / "checkpoints"
    folder.mkdir(parents=True)
    (tmp_path / "headless" / "config.yaml").write_text((run / "config.yaml").read_text())
    heads = {name: value for name, value in state.method.items() if not name.startswith("backbone.")}
    write_state(folder / "step-000000003.pt", replace(state, method=heads))
    assert cli.main(["knn", str(tmp_path / "headless")]) == 2
    assert "holds no backbone" in capsys.readouterr().err


def test_the_run_folder_names_its_classes(run):
    assert json.loads((run / "classes.json").read_text()) == ["a", "b"]
    assert open_classifier(run).classes == ("a", "b")


@pytest.mark.slow
def test_three_ranks_judge_as_one_does(run):
    assert cli.main(["test", str(run)]) == 0
    alone = (run / "eval-test.json").read_text()
    (run / "eval-test.json").unlink()
    complete(["test", run], under=[*TORCHRUN[:-1], "3"])  # 8 videos do not divide by 3
    assert (run / "eval-test.json").read_text() == alone
