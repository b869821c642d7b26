import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from engine.classify import accuracies, clip_scores, confusion_counts, video_scores
from engine.world import World
from models.method import Classifier
from pipelines.batch import ViewBatch
from pipelines.order import evaluation_slice

VIDEOS, CLIPS, CLASSES = 11, 10, 7


class Told(Classifier):
    """Takes its logits from the first pixels of a clip."""

    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout(0.9)  # would be seen where it is not in eval mode

    clip_format = planner = forward = None

    def logits(self, clips):
        return self.dropout(clips[:, 0, 0, 0, :])


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(3 * rng.standard_normal((VIDEOS, CLIPS, CLASSES)).astype(np.float32))
    return logits, torch.from_numpy(rng.integers(0, CLASSES - 1, VIDEOS))  # the last class has no video


def scores_of(logits, *, average, batch_size=4, worlds=1):
    parts = []
    for rank in range(worlds):
        mine = list(evaluation_slice(len(logits), rank=rank, world_size=worlds))
        batches = (
            ViewBatch(tuple(logits[part, clip][:, None, None, None, :] for clip in range(CLIPS)), torch.tensor(part))
            for part in (mine[first : first + batch_size] for first in range(0, len(mine), batch_size))
        )
        network = Told().train()
        parts.append(video_scores(network, batches, average=average, world=World(), label="", total=len(mine)))
        assert network.training
    return torch.cat(parts)


def test_logits_of_the_clips_are_averaged():
    logits, _ = drawn()
    torch.testing.assert_close(scores_of(logits, average="logits"), logits.mean(dim=1), rtol=0, atol=1e-6)


def test_probabilities_are_taken_before_the_average():
    logits, _ = drawn()
    expected = torch.stack([torch.stack([clip.softmax(0) for clip in video]).mean(0) for video in logits])
    given = scores_of(logits, average="probabilities")
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-6)
    assert (given.argmax(1) != logits.mean(dim=1).argmax(1)).any()  # else the test could not tell them apart


@pytest.mark.parametrize("average", ["logits", "probabilities"])
@pytest.mark.parametrize(("batch_size", "worlds"), [(1, 1), (VIDEOS, 1), (3, 2), (4, 3), (2, VIDEOS)])
def test_scores_depend_on_neither_batch_size_nor_ranks(average, batch_size, worlds):
    logits, _ = drawn()
    one = scores_of(logits, average=average)
    parts = scores_of(logits, average=average, batch_size=batch_size, worlds=worlds)
    torch.testing.assert_close(one, parts, rtol=0, atol=1e-6)


def test_accuracies_are_those_of_scikit_learn():
    logits, labels = drawn()
    scores = logits.mean(dim=1)
    given = accuracies(scores, labels)
    every = range(CLASSES)
    assert given["top1"] == pytest.approx(100 * top_k_accuracy_score(labels, scores, k=1, labels=every), abs=1e-9)
    assert given["top5"] == pytest.approx(100 * top_k_accuracy_score(labels, scores, k=5, labels=every), abs=1e-9)
    assert np.array_equal(confusion_counts(scores, labels), confusion_matrix(labels, scores.argmax(1), labels=every))
    present = labels.unique()
    by_class = [float((scores.argmax(1)[labels == label] == label).double().mean()) for label in present]
    assert given["class_mean"] == pytest.approx(100 * np.mean(by_class), abs=1e-9)


def test_top_five_of_five_classes_is_left_out():
    assert list(accuracies(torch.eye(5), torch.arange(5))) == ["top1", "class_mean"]
    assert list(accuracies(torch.eye(6), torch.arange(6))) == ["top1", "top5", "class_mean"]


def test_half_precision_logits_give_float32_probabilities():
    assert clip_scores(torch.zeros(2, 3, dtype=torch.float16), "probabilities").dtype == torch.float32
