import pytest
import torch

from pipelines.batch import ViewBatch


def batch(**changes) -> ViewBatch:
    given = {"clips": (torch.zeros(2, 3, 4, 5, 5),) * 2, "index": torch.arange(2), "targets": {"label": torch.ones(2)}}
    return ViewBatch(**{**given, **changes})


def test_a_sound_batch_is_made_and_counts_its_samples() -> None:
    assert len(batch()) == 2


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"clips": ()}, "at least one view"),
        ({"clips": (torch.zeros(2, 3, 5, 5),)}, r"\(B, C, T, H, W\)"),
        ({"clips": (torch.zeros(2, 3, 4, 5, 5), torch.zeros(2, 3, 4, 6, 6))}, "view 1"),
        ({"index": torch.arange(3)}, "index"),
        ({"index": torch.arange(2, dtype=torch.int32)}, "int64"),
        ({"targets": {"label": torch.ones(3)}}, "target label"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(changes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        batch(**changes)


def test_moving_a_batch_keeps_its_parts() -> None:
    moved = batch().to("meta")
    assert moved.clips[1].device.type == moved.index.device.type == moved.targets["label"].device.type == "meta"
