"""Flow follows the geometry of its clip: vectors are turned, stretched and mirrored with the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_process.errors import InputError
from pipelines.host import HostExecutor
from pipelines.pixels import cut_clip
from pipelines.plan import OPERATIONS, Box, ClipFormat, ClipPlan, Modality, Photometric
from pipelines.source import plan_batch
from pipelines.vectors import vector_map
from tests.pipelines.memory_shards import RandomPlanner, flow_videos, generated

HEIGHT, WIDTH, SIZE = 60, 80, 30
PLAIN = ClipPlan((0,), Box(0, 10, 60, 60))


def uniform(u: int, v: int) -> dict[int, np.ndarray]:
    return {0: np.full((HEIGHT, WIDTH, 2), (128 + u, 128 + v), np.uint8)}


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (PLAIN, (20, 10)),
        (replace(PLAIN, flip=True), (-20, 10)),
        (replace(PLAIN, quarter_turns=1), (10, -20)),
        (replace(PLAIN, quarter_turns=2), (-20, -10)),
        (replace(PLAIN, quarter_turns=3), (-10, 20)),
        (replace(PLAIN, flip=True, quarter_turns=1), (10, 20)),
        (replace(PLAIN, box=Box(0, 0, 30, 60)), (20, 20)),
        (replace(PLAIN, photometric=(Photometric(brightness=0.5, grey=True, blur=1.0),)), (20, 10)),
        (replace(PLAIN, tilt=90.0), (10, -20)),
        (replace(PLAIN, box=Box(15, 25, 30, 30), angle=90.0), (20, -40)),
    ],
)
def test_a_uniform_flow_changes_as_its_picture_does(clip: ClipPlan, expected: tuple[int, int]) -> None:
    # The box of 60 pixels becomes 30: displacements are halved.
    cut = cut_clip(uniform(40, 20), clip, SIZE)[0].numpy().astype(int) - 128
    assert np.median(cut.reshape(-1, 2), axis=0).tolist() == list(expected)


@pytest.mark.parametrize("angle", [0.0, 12.0, -30.0])
@pytest.mark.parametrize(("flip", "turns"), [(False, 0), (True, 0), (False, 1), (True, 3)])
def test_the_map_moves_points_as_the_picture_moves(angle: float, flip: bool, turns: int) -> None:
    """A point and the point that it flows to are found again at a distance that the map gives."""
    clip = replace(PLAIN, box=Box(5, 15, 40, 50), angle=angle, flip=flip, quarter_turns=turns)
    start, flow = np.array([38.0, 28.0]), np.array([6.0, -5.0])
    found = [spot(clip, point) for point in (start, start + flow)]
    assert found[1] - found[0] == pytest.approx(vector_map(clip, 120) @ flow, abs=0.7)


def spot(clip: ClipPlan, point: np.ndarray) -> np.ndarray:
    """Where a bright spot at (x, y) of the frame comes to stand in the cut picture, (x, y)."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    picture = 255 * np.exp(-((columns - point[0]) ** 2 + (rows - point[1]) ** 2) / 8.0)
    cut = cut_clip({0: np.repeat(picture[:, :, None], 3, axis=2).astype(np.uint8)}, clip, 120)[0, :, :, 0].numpy()
    weight = cut.astype(float) ** 2
    rows, columns = np.mgrid[:120, :120] + 0.5
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def test_outside_of_the_frame_nothing_moves() -> None:
    clip = ClipPlan((0,), Box(-30, -30, 60, 60), padded=True)
    cut = cut_clip(uniform(40, 40), clip, 60)[0].numpy()
    assert (cut[:28, :28] == 128).all()
    assert (cut[32:, 32:] == 168).all()


@pytest.mark.parametrize(
    ("modality", "operations"),
    [
        ("flow", frozenset()),
        ("flow", frozenset({"flip", "turn"})),
        ("flow", frozenset(OPERATIONS)),
        ("flow-u", frozenset(OPERATIONS)),
        ("flow-v", frozenset({"flip", "turn"})),
    ],
)
def test_host_and_dali_agree_on_flow(modality: Modality, operations: frozenset[str]) -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from pipelines.dali import DaliExecutor

    planner, videos = RandomPlanner(operations), flow_videos(5)
    clip_format = replace(planner.clip_format(32), modality=modality)
    planned = [plan_batch(videos, planner, clip_format, range(5), seed=0, epoch=epoch) for epoch in range(20)]
    host, dali = HostExecutor(clip_format, threads=1), DaliExecutor(clip_format, max_samples=5, threads=1)
    total, count = 0.0, 0
    for (batch, ours), (_, theirs) in zip(host.run(planned), dali.run(planned), strict=True):
        for view, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert one.shape == other.shape == (5, clip_format.channels, 4, 32, 32)
            std = torch.tensor(clip_format.std[: clip_format.channels]).view(-1, 1, 1, 1)
            levels = 255 * std * (one - other).abs()
            # A level of the picture is one of the vectors times what the box is stretched by.
            for sample, plan in enumerate(batch.plans):
                stretch = np.abs(np.linalg.svd(vector_map(plan.clips[view], 32), compute_uv=False)).max()
                assert float(levels[sample].max()) < 2.01 + 2 * stretch
            total, count = total + float(levels.sum()), count + levels.numel()
    assert total / count < 0.7
    host.close()
    dali.close()


def test_flow_and_pictures_are_not_taken_for_each_other() -> None:
    planner = RandomPlanner(frozenset())
    with pytest.raises(InputError, match="v0 is stored as flow-jpeg, clips of rgb are wanted"):
        plan_batch(flow_videos(1), planner, planner.clip_format(32), [0], seed=0, epoch=0)
    with pytest.raises(InputError, match="stored as jpeg, clips of flow are wanted"):
        plan_batch(
            generated(1), planner, replace(planner.clip_format(32), modality="flow"), [0], seed=0, epoch=0
        )  # fmt: skip
    with pytest.raises(InputError, match=r"clips of flow-v are wanted; .* --modality flow"):
        plan_batch(
            generated(1), planner, replace(planner.clip_format(32), modality="flow-v"), [0], seed=0, epoch=0
        )  # fmt: skip
    with pytest.raises(ValueError, match="expected one of rgb, flow, flow-u, flow-v"):
        ClipFormat(1, 1, 1, modality="depth")  # type: ignore[arg-type]
