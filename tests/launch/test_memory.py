"""Training does not grow: the largest memory of the process is reached early and stays."""

import pytest

from engine.log import read_log
from tests.launch.runs import complete, pretrain_words

EPOCHS = 20


def test_memory_is_flat_over_twenty_epochs(shards, tmp_path):
    settings = {
        "train.epochs": EPOCHS, "train.global_batch": 2, "train.save_every": 8, "train.keep": 1, "train.ema": 0.9,
        "train.max_skipped": 1, "method.clip.size": 32,
    }  # fmt: skip
    words = [word for word in pretrain_words(tmp_path, shards, settings) if not word.startswith("--train.steps")]
    complete([*words, "--train.steps=null"])
    records = read_log(tmp_path / "log.jsonl")
    assert records[-1]["epoch"] == EPOCHS - 1
    steps = len(records) // EPOCHS
    early, late = (records[steps * epochs - 1]["host_memory_mb"] for epochs in (EPOCHS // 4, EPOCHS))
    assert late < early + 4.0, f"{early:.1f} MiB after {EPOCHS // 4} epochs, {late:.1f} after {EPOCHS}"


@pytest.mark.gpu
def test_device_memory_is_flat_over_twenty_epochs(shards, tmp_path):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    settings = {"train.epochs": EPOCHS, "train.global_batch": 2, "train.ema": 0.9, "dist.device": "cuda"}
    complete([*pretrain_words(tmp_path, shards, settings), "--train.steps=null"])
    memory = [record["memory_mb"] for record in read_log(tmp_path / "log.jsonl")]
    assert memory[-1] == memory[len(memory) // 4]
