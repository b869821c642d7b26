"""Balanced accuracies against lists of answers."""

import pytest
import torch

from models.recall import RunningRecalls
from tests.engine.ranks import Ranks


def answers(count, classes, seed, *, outputs=None):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, outputs or classes, generator=rng), torch.randint(0, classes, (count,), generator=rng)


@pytest.mark.parametrize("outputs", [4, 5], ids=["one output a class", "an output too many"])
def test_numbers_are_those_of_lists_of_answers_that_fade(outputs):
    recalls = RunningRecalls({"task": 4})
    batches = [answers(6, 4, seed, outputs=outputs) for seed in range(30)]
    for logits, labels in batches:
        recall = recalls.observe("task", logits, labels)
        recalls.keep()
    seen, right = [0.0] * 4, [0.0] * 4
    for age, (logits, labels) in enumerate(reversed(batches)):
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
            seen[label] += 0.99**age
            right[label] += 0.99**age * (row.index(max(row)) == label)
    expected = sum(r / s for r, s in zip(right, seen, strict=True)) / 4
    assert recall.balanced.item() == pytest.approx(expected, rel=1e-5)
    assert recall.shares.tolist() == pytest.approx([s / sum(seen) for s in seen], rel=1e-5)
    logits, labels = batches[-1]
    assert recall.accuracy.item() == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_answering_always_the_frequent_class_is_balanced_chance():
    recalls = RunningRecalls({"task": 5})
    labels = torch.tensor([0] * 16 + [1, 2, 3, 4])
    recall = recalls.observe("task", torch.eye(5)[0].expand(20, 5), labels)
    assert recall.accuracy.item() == pytest.approx(0.8)
    assert recall.balanced.item() == pytest.approx(0.2)
    assert recall.shares.tolist() == pytest.approx([0.8, 0.05, 0.05, 0.05, 0.05])


def test_classes_that_were_never_asked_for_do_not_count():
    recalls = RunningRecalls({"task": 5})
    recall = recalls.observe("task", torch.eye(5)[:2], torch.tensor([0, 1]))
    assert recall.balanced.item() == 1.0


def _kept_on_a_rank(world):
    recalls = RunningRecalls({"one": 3, "other": 5})
    recalls.keep()
    for step in range(3):
        for name, classes in (("one", 3), ("other", 5)):
            logits, labels = answers(8, classes, seed=step)
            size = 8 // world.world_size
            mine = slice(world.rank * size, (world.rank + 1) * size)
            recalls.observe(name, logits[mine], labels[mine])
        recalls.keep()
    return {name: value.tolist() for name, value in recalls.state_dict().items()}


class Alone:
    rank, world_size = 0, 1


@pytest.fixture(scope="module")
def two_ranks():
    group = Ranks(2)
    yield group
    group.stop()


def test_counts_of_all_ranks_are_those_of_one_process(two_ranks):
    expected = _kept_on_a_rank(Alone)
    assert set(expected) == {"one_counts", "other_counts"}
    for counts in two_ranks.run(_kept_on_a_rank):
        for name, value in expected.items():
            for kept, right in zip(counts[name], value, strict=True):
                assert kept == pytest.approx(right, rel=1e-6)
