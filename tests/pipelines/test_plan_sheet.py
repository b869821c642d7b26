"""Sheets of what a method sees show the clips that it is given, and where they were cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_process.contact_sheet import as_picture
from data_process.decoding import decode
from pipelines.host import HostExecutor
from pipelines.pixels import cut_clip, rotated_crop
from pipelines.plan import OPERATIONS, Box, ClipPlan, Modality
from pipelines.plan_sheet import VIEW_COLOURS, PlanSheetLayout, box_corners, draw_plan_sheet
from pipelines.source import plan_batch
from tests.pipelines.memory_shards import RandomPlanner, flow_videos, generated


def test_every_view_of_every_sample_stands_on_the_sheet() -> None:
    planner = RandomPlanner(frozenset(OPERATIONS), num_views=3, num_frames=4)
    clip_format = planner.clip_format(32)
    batch = plan_batch(generated(4), planner, clip_format, [0, 1, 2], seed=0, epoch=0)
    executor = HostExecutor(clip_format, threads=1)
    ((_, clips),) = executor.run([batch])
    executor.close()
    first = [plan.clips[0].frames[0] for plan in batch.plans]
    stored = [decode(batch.frames[n], batch.records[n])[frame] for n, frame in enumerate(first)]
    layout = PlanSheetLayout(frames=4, tile=32, source=100)
    made = {"backwards": clips[1].flip(2).flip(4)}
    page = draw_plan_sheet("a title", batch, clips, stored, clip_format, layout, derived=made)
    sheet = np.asarray(page).astype(int)
    for sample in range(3):
        for view, shown in enumerate([*clips, made["backwards"]]):
            pixels = shown[sample].permute(1, 2, 3, 0).numpy() * clip_format.std + np.array(clip_format.mean)
            for frame in np.rint(255 * pixels).astype(int):
                assert stands_on(sheet, frame), f"sample {sample}, view {view}"
    for colour in VIEW_COLOURS[:3]:
        assert (sheet == colour).all(axis=2).any()


@pytest.mark.parametrize("modality", ["flow", "flow-v"])
def test_flow_stands_on_the_sheet_in_its_colours(modality: Modality) -> None:
    planner = RandomPlanner(frozenset({"flip", "turn"}), num_views=2, num_frames=4)
    clip_format = replace(planner.clip_format(32), modality=modality)
    batch = plan_batch(flow_videos(2), planner, clip_format, [0, 1], seed=0, epoch=0)
    executor = HostExecutor(clip_format, threads=1)
    ((_, clips),) = executor.run([batch])
    executor.close()
    stored = [decode(batch.frames[n], batch.records[n])[batch.plans[n].clips[0].frames[0]] for n in range(2)]
    layout = PlanSheetLayout(frames=4, tile=32, source=100)
    sheet = np.asarray(draw_plan_sheet("a title", batch, clips, stored, clip_format, layout)).astype(int)
    for sample in range(2):
        decoded = decode(batch.frames[sample], batch.records[sample])
        for clip in batch.plans[sample].clips:
            levels = cut_clip(decoded, clip, 32).numpy()
            pictures = levels[..., [1, 1, 1]] if modality == "flow-v" else [as_picture(frame) for frame in levels]
            for picture in pictures:
                assert stands_on(sheet, np.asarray(picture).astype(int))


def stands_on(sheet: np.ndarray, tile: np.ndarray) -> bool:
    """Whether a picture is found on the sheet, every pixel of it."""
    tops, lefts = np.nonzero((sheet[: -len(tile), : -len(tile)] == tile[0, 0]).all(axis=2))
    return any(
        np.array_equal(sheet[top : top + len(tile), left : left + len(tile)], tile)
        for top, left in zip(tops, lefts, strict=True)
    )


@pytest.mark.parametrize("angle", [0.0, 9.0, -25.0])
def test_corners_lie_where_the_crop_takes_its_pixels(angle: float) -> None:
    height, width = 90, 120
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    frame = np.stack([rows, columns, np.zeros_like(rows)], axis=2)[None]
    box = Box(30, 40, 25, 30)
    cut = rotated_crop(frame, box, angle)[0]
    corners = box_corners(ClipPlan((0,), box, angle=angle), height, width)
    ends = (cut[0, 0], cut[0, -1], cut[-1, -1], cut[-1, 0])
    for (x, y), pixel in zip(corners, ends, strict=True):
        # A corner of the box is up to half a pixel's diagonal from the middle of its corner pixel.
        assert torch.hypot(pixel[1] + 0.5 - x, pixel[0] + 0.5 - y) < 0.75
