import json

import numpy as np
import pytest
import torch

from data_process.shards import ShardSet
from engine import extract as parts_module
from engine.extract import joined_parts, part_path, write_parts
from engine.features import EvalConfig
from launch import cli
from launch.evaluate import evaluation_clips, open_subject
from models.weights.tensor_file import read_tensor_file
from pipelines.evaluation import evaluation_batches
from pipelines.loader import PipelineConfig
from tests.launch.runs import RECIPE, ROOT, TORCHRUN, complete

SMALL = [
    *("--method.backbone.width=2", "--eval.num_clips=2", "--eval.num_frames=4", "--eval.size=16"),
    *("--eval.resize=null", "--eval.batch_size=3", "--eval.feature=pooled", "--dist.device=cpu"),
]


@pytest.fixture
def words(shards):
    return ["extract", str(ROOT / RECIPE), f"--data.root={shards}", *SMALL]


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 3 videos, so that 8 make three of them, the last one short."""
    monkeypatch.setattr(write_parts, "__kwdefaults__", {"part_videos": 3})
    monkeypatch.setattr(joined_parts, "__defaults__", (3,))


def by_hand(words, shards, split):
    """Features of each clip alone, (videos, clips, features)."""
    subject = open_subject(ROOT / RECIPE, words[2:])
    videos, network, rows = ShardSet(shards, split=split), subject.backbone.eval(), []
    for index in range(len(videos)):
        (batch,) = evaluation_batches(
            videos, evaluation_clips(subject.config), config=PipelineConfig(), indices=[index], batch_size=1
        )
        with torch.no_grad():
            rows.append(torch.cat([network.pooled(clip) for clip in batch.clips]))
    return torch.stack(rows).numpy()


def test_one_row_a_video_and_one_a_clip_with_their_index(words, shards, tmp_path, small_parts, capsys):
    assert cli.main([*words, "-o", str(tmp_path), "--split=test", "--per-clip", "--safetensors"]) == 0
    told = capsys.readouterr().out.split()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.rpartition("/")[2] for path in told)
    expected, videos = by_hand(words, shards, "test"), ShardSet(shards, split="test")
    index = json.loads((tmp_path / "test.json").read_text())
    rows, clips = np.load(tmp_path / "test.npy"), np.load(tmp_path / "test-clips.npy")
    assert (rows.dtype, rows.shape) == (np.float32, tuple(index["shape"]))
    np.testing.assert_allclose(rows, expected.mean(axis=1), rtol=0, atol=1e-5)
    np.testing.assert_allclose(clips, expected.reshape(16, -1), rtol=0, atol=1e-5)
    assert index["ids"] == list(videos.ids())
    assert index["labels"] == videos.labels.tolist()
    assert index["clips_per_video"] == [2] * 8
    tensors, text = read_tensor_file(tmp_path / "test.safetensors")
    assert np.array_equal(tensors["videos"], rows)
    assert np.array_equal(tensors["clips"], clips)
    assert json.loads(text or "") == index


def test_windows_that_cover_a_video_are_counted_for_each(words, shards, tmp_path, small_parts):
    given = ["--eval.sampling=sliding", "--split=test", "--per-clip", "-o", str(tmp_path)]
    assert cli.main([*words, *given]) == 0
    index, rows = json.loads((tmp_path / "test.json").read_text()), np.load(tmp_path / "test.npy")
    clips = np.load(tmp_path / "test-clips.npy")
    counts = index["clips_per_video"]
    assert sum(counts) == len(clips)
    assert len(set(counts)) > 1  # videos of several lengths
    means = [part.mean(axis=0) for part in np.split(clips, np.cumsum(counts)[:-1])]
    np.testing.assert_allclose(rows, means, rtol=0, atol=1e-6)


def test_an_ended_extraction_goes_on_where_it_was(words, tmp_path, small_parts, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert cli.main([*words, "-o", str(whole), "--split=test"]) == 0
    write, written = parts_module._write_part, []

    def ends_after_two(path, arrays):
        if len(written) == 2:
            raise KeyboardInterrupt
        write(path, arrays)
        written.append(path)

    monkeypatch.setattr(parts_module, "_write_part", ends_after_two)
    assert cli.main([*words, "-o", str(broken), "--split=test"]) == 130
    assert not (broken / "test.json").exists()
    again = []
    monkeypatch.setattr(parts_module, "_write_part", lambda path, arrays: (again.append(path), write(path, arrays)))
    assert cli.main([*words, "-o", str(broken), "--split=test"]) == 0
    assert again == [part_path(written[0].parent, 6)]
    assert (broken / "test.npy").read_bytes() == (whole / "test.npy").read_bytes()
    assert (broken / "test.json").read_bytes() == (whole / "test.json").read_bytes()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["--train.seed=7"], "weights of another model"),
        (["--eval.num_clips=3"], "other settings"),
        (["--method.backbone.width=3"], "weights of another model"),
    ],
    ids=["weights", "clips", "network"],
)
def test_features_of_another_model_are_not_written_over(words, tmp_path, capsys, changed, told):
    assert cli.main([*words, "-o", str(tmp_path), "--split=test"]) == 0
    before = (tmp_path / "test.npy").read_bytes()
    assert cli.main([*words, *changed, "-o", str(tmp_path), "--split=test"]) == 2
    said = capsys.readouterr().err
    assert "holds features of other making" in said
    assert told in said
    assert (tmp_path / "test.npy").read_bytes() == before


def test_both_splits_are_the_default_and_the_batch_size_does_not_matter(words, tmp_path):
    three, eight = tmp_path / "three", tmp_path / "eight"
    assert cli.main([*words, "-o", str(three)]) == 0
    assert cli.main([*words, "-o", str(eight), "--eval.batch_size=8"]) == 0
    for name, count in (("train.npy", 16), ("test.npy", 8)):
        rows = np.load(three / name)
        assert len(rows) == count
        np.testing.assert_allclose(np.load(eight / name), rows, rtol=0, atol=1e-6)


def test_a_finished_table_is_left_as_it_is_until_clips_are_asked_for(words, tmp_path, monkeypatch):
    given = [*words, "-o", str(tmp_path), "--split=test"]
    assert cli.main(given) == 0
    write, written = parts_module._write_part, []
    monkeypatch.setattr(parts_module, "_write_part", lambda path, arrays: (written.append(path), write(path, arrays)))
    assert cli.main(given) == 0
    assert written == []
    assert cli.main([*given, "--per-clip"]) == 0
    assert len(written) == 1
    assert len(np.load(tmp_path / "test-clips.npy")) == 16
    assert cli.main(given) == 0
    assert len(written) == 1


def test_a_table_that_is_older_than_a_setting_is_still_known(words, tmp_path, capsys):
    given = [*words, "-o", str(tmp_path), "--split=test"]
    assert cli.main(given) == 0
    index = json.loads((tmp_path / "test.json").read_text())
    del index["settings"]["interpolation"]
    (tmp_path / "test.json").write_text(json.dumps(index))
    assert cli.main(given) == 0
    assert cli.main([*given, "--eval.interpolation=bicubic"]) == 2
    assert "holds features of other making: other settings" in capsys.readouterr().err


def test_the_settings_that_decide_features_are_settings():
    from launch.extract import _CLIPS

    assert set(_CLIPS) <= set(EvalConfig.__dataclass_fields__)


@pytest.mark.slow
def test_two_ranks_write_what_one_writes(words, tmp_path):
    assert cli.main([*words, "-o", str(tmp_path / "one")]) == 0
    complete([*words, "-o", tmp_path / "two"], under=TORCHRUN)
    for name in ("train.npy", "test.npy", "train.json", "test.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
