"""What both executors promise: layout, normalisation, one batch after the other, and faults by name."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
import torch

from data_process.decoding import decode
from data_process.errors import InputError, RunError
from pipelines import mending
from pipelines.dali_feed import edge_gain, stored_frames
from pipelines.host import HostExecutor
from pipelines.pixels import cut_clip
from pipelines.plan import OPERATIONS, ClipFormat
from pipelines.source import PlannedBatch, plan_batch
from tests.pipelines.memory_shards import MemoryShards, RandomPlanner, generated

PLANNER = RandomPlanner(frozenset(OPERATIONS), num_views=2, num_frames=3)
FORMAT = PLANNER.clip_format(24)


def make_host(clip_format: ClipFormat) -> HostExecutor:
    return HostExecutor(clip_format, threads=2)


def make_dali(clip_format: ClipFormat):
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from pipelines.dali import DaliExecutor

    return DaliExecutor(clip_format, max_samples=4, threads=2)


@pytest.fixture(params=[make_host, make_dali], ids=["host", "dali"])
def make(request: pytest.FixtureRequest) -> Callable:
    return request.param


@pytest.fixture(scope="module")
def videos() -> MemoryShards:
    return generated(6)


def batches(videos: MemoryShards, count: int, *, size: int = 4) -> Iterator[PlannedBatch]:
    for epoch in range(count):
        indices = [(epoch + place) % len(videos) for place in range(size)]
        yield plan_batch(videos, PLANNER, FORMAT, indices, seed=1, epoch=epoch)


def test_views_are_normalised_channels_last_tensors(videos: MemoryShards, make: Callable) -> None:
    executor = make(FORMAT)
    ((batch, clips),) = executor.run(batches(videos, 1))
    assert len(clips) == 2
    for view, clip in enumerate(clips):
        assert clip.shape == (4, 3, 3, 24, 24)
        assert clip.dtype == torch.float32
        assert clip.is_contiguous(memory_format=torch.channels_last_3d)
        for sample in range(4):
            decoded = decode(batch.frames[sample], batch.records[sample])
            pixels = cut_clip(decoded, batch.plans[sample].clips[view], 24).double() / 255.0
            expected = (pixels - torch.tensor(FORMAT.mean)) / torch.tensor(FORMAT.std)
            limit = 2.01 / 255.0 / min(FORMAT.std) if make is make_dali else 1e-5
            assert (clip[sample].permute(1, 2, 3, 0) - expected).abs().max() < limit
    executor.close()


def test_batches_come_in_order_and_may_be_short(videos: MemoryShards, make: Callable) -> None:
    executor = make(FORMAT)
    planned = [*batches(videos, 3), *batches(videos, 1, size=1)]
    done = list(executor.run(planned))
    assert [batch for batch, _ in done] == planned
    assert [len(clips[0]) for _, clips in done] == [4, 4, 4, 1]
    assert not torch.equal(done[0][1][0], done[1][1][0]), "a held batch is not overwritten"
    executor.close()


def test_a_run_that_was_left_does_not_show_in_the_next(videos: MemoryShards, make: Callable) -> None:
    executor = make(FORMAT)
    planned = list(batches(videos, 6))
    left = executor.run(planned)
    next(left)
    left.close()
    again = executor.run(planned[3:])
    batch, clips = next(again)
    again.close()
    ((_, alone),) = executor.run(planned[3:4])
    assert batch is planned[3]
    assert torch.equal(clips[0], alone[0])
    executor.close()


def broken(batch: PlannedBatch, damage: Callable[[bytes], bytes]) -> tuple[PlannedBatch, str]:
    """The batch with one frame of its third sample damaged, and how an error should call that frame."""
    frames = list(batch.frames)
    *others, last = frames[2].units
    frames[2] = replace(frames[2], units=(*others, damage(last)))
    number = frames[2].numbers[-1]
    return replace(batch, frames=tuple(frames)), f"{batch.records[2].id}, frame {number}"


def other_size(_: bytes) -> bytes:
    return simplejpeg.encode_jpeg(np.zeros((9, 9, 3), np.uint8))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"\xff\xd8" + bytes(len(data) - 4) + b"\xff\xd9",
        other_size,
    ],
    ids=["cut short", "empty", "zeros inside", "another size"],
)
def test_a_broken_jpeg_is_named_at_its_step(videos: MemoryShards, make: Callable, damage: Callable) -> None:
    executor = make(FORMAT)
    planned = list(batches(videos, 5))
    planned[2], name = broken(planned[2], damage)
    seen: list[PlannedBatch] = []

    def consume() -> None:
        for batch, _ in executor.run(planned):
            seen.append(batch)

    with pytest.raises(RunError, match=name):
        consume()
    assert seen == planned[:2]
    ((good, _),) = executor.run(planned[4:])
    assert good is planned[4], "the executor goes on"
    executor.close()


def test_host_pixels_do_not_depend_on_the_number_of_threads(videos: MemoryShards) -> None:
    results = []
    for threads in (1, 4):
        executor = HostExecutor(FORMAT, threads=threads)
        results.append([clip for _, clips in executor.run(batches(videos, 3)) for clip in clips])
        executor.close()
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_the_host_decodes_each_stored_frame_once(videos: MemoryShards, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[str, int]] = []

    def counting(encoded, record):
        decoded.extend((record.id, number) for number in encoded.numbers)
        return decode(encoded, record)

    monkeypatch.setattr(mending, "decode", counting)
    executor = HostExecutor(FORMAT, threads=2)
    ((batch, _),) = executor.run(batches(videos, 1))
    executor.close()
    wanted = {
        (record.id, frame)
        for record, plan in zip(batch.records, batch.plans, strict=True)
        for clip in plan.clips
        for frame in clip.frames
    }
    assert sorted(decoded) == sorted(wanted)


def test_host_threads_leave_torchs_own_thread_count_alone(videos: MemoryShards) -> None:
    before, threads = torch.get_num_threads(), set(threading.enumerate())
    torch.set_num_threads(3)
    try:
        executor = HostExecutor(FORMAT, threads=2)
        inside = [executor._pool.submit(torch.get_num_threads).result() for _ in range(4)]
        assert inside == [1, 1, 1, 1]
        assert torch.get_num_threads() == 3
        fresh: list[int] = []
        thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert fresh == [3]
        executor.close()
        assert set(threading.enumerate()) == threads
    finally:
        torch.set_num_threads(before)


def test_dali_leaves_undeclared_operations_out_of_its_graph() -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from pipelines.dali import DaliExecutor
    from pipelines.dali_feed import Feed

    def operators(operations: set[str]) -> str:
        clip_format = replace(FORMAT, operations=frozenset(operations))
        executor = DaliExecutor(clip_format, max_samples=1, threads=1)
        return executor._build(Feed(iter(()), clip_format, "jpeg", stored_frames), "jpeg").serialize().decode("latin-1")

    plain = operators(set())
    for operation, name in (("rotate", "Rotate"), ("colour", "ColorTwist"), ("blur", "GaussianBlur"), ("flip", "Flip")):
        assert name not in plain
        assert name in operators({operation})


def test_mixed_decoding_without_a_gpu_is_refused() -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from pipelines.dali import DaliExecutor

    with pytest.raises(InputError, match=r"pipeline\.decode mixed"):
        DaliExecutor(FORMAT, max_samples=1, threads=1, decode="mixed")


def test_a_missing_dali_is_told_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from pipelines.dali import DaliExecutor

    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(InputError, match=r"pip install 'intravid\[dali\]'"):
        DaliExecutor(FORMAT, max_samples=1, threads=1)


@pytest.mark.parametrize(("length", "size"), [(201, 112), (112, 112), (60, 112), (113, 112), (300, 7), (1, 5), (3, 1)])
def test_edge_gains_undo_what_zeros_outside_take_from_a_resize(length: int, size: int) -> None:
    gain = edge_gain(length, size)
    scale, width = length / size, max(1.0, length / size)
    for place in range(size):
        centre = (place + 0.5) * scale
        weights = {p: max(0.0, 1 - abs(p + 0.5 - centre) / width) for p in range(-length - 2, 2 * length + 2)}
        inside = sum(weight for p, weight in weights.items() if 0 <= p < length)
        assert gain[place] == pytest.approx(sum(weights.values()) / inside, rel=1e-5)


@pytest.mark.parametrize(("length", "size"), [(201, 112), (112, 112), (60, 112), (300, 7), (1, 5), (3, 1)])
def test_edge_gains_of_a_cubic_filter_are_its_own(length: int, size: int) -> None:
    gain, a = edge_gain(length, size, "bicubic"), -0.5
    scale, width = length / size, max(1.0, length / size)
    for place in range(size):
        weights = {}
        for p in range(-3 * length - 4, 4 * length + 4):
            x = abs(p + 0.5 - (place + 0.5) * scale) / width
            near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
            weights[p] = near if x < 1 else far if x < 2 else 0.0
        inside = sum(weight for p, weight in weights.items() if 0 <= p < length)
        assert gain[place] == pytest.approx(sum(weights.values()) / inside, rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("decode", ["cpu", "mixed"])
def test_dali_on_a_gpu_agrees_with_the_host(videos: MemoryShards, decode: str) -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from pipelines.dali import DaliExecutor

    host, gpu = (
        make_host(FORMAT),
        DaliExecutor(FORMAT, max_samples=4, threads=os.cpu_count() or 1, device="gpu", decode=decode, device_id=0),
    )
    for (_, expected), (_, clips) in zip(host.run(batches(videos, 5)), gpu.run(batches(videos, 5)), strict=True):
        for one, other in zip(expected, clips, strict=True):
            error = (one - other.cpu()).abs() * 255.0 * max(FORMAT.std)
            assert other.is_cuda
            assert error.mean() < 1.0
            assert error.quantile(0.999) < 6.0, "IDCT and rounding of nvJPEG differ by a level or two"
    host.close()
