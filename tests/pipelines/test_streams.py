"""Executors on records that are one video file: what the host decodes, and what DALI's decoder hands on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from data_process import ffmpeg
from data_process.decoding import decode
from data_process.errors import InputError
from data_process.outcome import Stored
from data_process.raw_videos import RawVideos
from data_process.records import VideoRecord
from data_process.source import SourceVideo
from data_process.transcode import transcode
from data_process.transcode_config import TranscodeConfig
from pipelines.host import HostExecutor
from pipelines.pixels import cut_clip
from pipelines.plan import OPERATIONS
from pipelines.source import plan_batch
from tests.pipelines.memory_shards import MemoryShards, RandomPlanner, generated
from tests.sample_videos import write_video

pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")
PLANNER = RandomPlanner(frozenset(OPERATIONS), num_views=2, num_frames=4)
FORMAT = PLANNER.clip_format(24)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> MemoryShards:
    folder = tmp_path_factory.mktemp("videos")
    records, units = [], []
    for number in range(4):
        path = write_video(folder / f"{number}.mp4", seed=number, frames=20 + number, height=60 + 2 * number, width=82)
        stored = transcode(SourceVideo(path, f"video/{number}"), number, TranscodeConfig(codec="mp4"))
        assert isinstance(stored, Stored)
        records.append(stored.header.as_video_record())
        units.append(stored.units)
    return MemoryShards(records, units)


def test_the_host_cuts_clips_out_of_streams(videos: MemoryShards) -> None:
    batch = plan_batch(videos, PLANNER, FORMAT, [0, 1, 2, 3], seed=0, epoch=0)
    executor = HostExecutor(FORMAT, threads=2)
    ((_, clips),) = executor.run([batch])
    executor.close()
    for view, clip in enumerate(clips):
        for sample in range(4):
            pixels = cut_clip(decode(batch.frames[sample], batch.records[sample]), batch.plans[sample].clips[view], 24)
            expected = (pixels.double() / 255.0 - torch.tensor(FORMAT.mean)) / torch.tensor(FORMAT.std)
            assert (clip[sample].permute(1, 2, 3, 0) - expected).abs().max() < 1e-5


def test_dali_and_the_host_agree_on_streams(videos: MemoryShards) -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from pipelines.dali import DaliExecutor

    planned = [plan_batch(videos, PLANNER, FORMAT, [0, 1, 2, 3], seed=1, epoch=epoch) for epoch in range(5)]
    host, dali = HostExecutor(FORMAT, threads=1), DaliExecutor(FORMAT, max_samples=4, threads=2)
    for (_, ours), (_, theirs) in zip(host.run(planned), dali.run(planned), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (one - other).abs().max() < 2.01 / 255 / min(FORMAT.std)
    host.close()
    dali.close()


def test_dali_and_the_host_agree_on_video_files(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from pipelines.dali import DaliExecutor

    paths = [write_video(tmp_path / f"{n}.mp4", seed=n, frames=20, height=60 + 2 * n, width=82) for n in range(4)]
    files = RawVideos([SourceVideo(path, path.stem) for path in paths], name="files", jobs=1)
    planned = [plan_batch(files, PLANNER, FORMAT, [0, 1, 2, 3], seed=1, epoch=epoch) for epoch in range(3)]
    host, dali = HostExecutor(FORMAT, threads=1), DaliExecutor(FORMAT, max_samples=4, threads=2)
    batches = list(zip(host.run(planned), dali.run(planned), strict=True))
    assert len(batches) == 3
    for (_, ours), (_, theirs) in batches:
        for one, other in zip(ours, theirs, strict=True):
            assert (one - other).abs().max() < 2.01 / 255 / min(FORMAT.std)
    host.close()
    dali.close()


def test_dali_refuses_a_run_of_two_codecs(videos: MemoryShards) -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from pipelines.dali import DaliExecutor

    jpegs = generated(1)
    both = MemoryShards([*videos.records, *jpegs.records], [*videos.units, *jpegs.units])
    planned = [plan_batch(both, PLANNER, FORMAT, indices, seed=0, epoch=0) for indices in ([0, 1], [2, 4])]
    executor = DaliExecutor(FORMAT, max_samples=2, threads=1)
    with pytest.raises(InputError, match="video/0 is stored as jpeg, videos before it as mp4"):
        list(executor.run(planned))
    executor.close()
    host = HostExecutor(FORMAT, threads=1)
    assert len(list(host.run(planned))) == 2, "the host takes both"
    host.close()


def vp9(path: Path, content: Path) -> bytes:
    command = [ffmpeg.executable(), "-nostdin", "-y", "-v", "error", "-i", str(content), "-c:v", "libvpx-vp9"]
    subprocess.run([*command, "-g", "8", "-b:v", "1M", "-threads", "1", str(path)], check=True, capture_output=True)
    return path.read_bytes()


def test_frames_of_dalis_own_decoder_go_through_the_same_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its H.264 needs a GPU; VP9 takes the same way on the CPU, decoder, frames by number and augmentation."""
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from pipelines.dali import DaliExecutor, VideoDecoder

    data = [vp9(tmp_path / f"{n}.mp4", write_video(tmp_path / f"s{n}.mp4", seed=n, frames=24)) for n in range(3)]
    videos = MemoryShards(
        [VideoRecord(f"v{n}", 0, "train", "mp4", 24, 25.0, 64, 80) for n in range(3)], [[one] for one in data]
    )
    planned = [plan_batch(videos, PLANNER, FORMAT, [0, 1, 2], seed=2, epoch=epoch) for epoch in range(4)]
    executor = DaliExecutor(FORMAT, max_samples=3, threads=2)
    decoder = VideoDecoder("cpu", executor._options)
    monkeypatch.setattr(executor, "_frames_of", lambda codec: decoder.decode)
    host = HostExecutor(FORMAT, threads=1)
    worst = []
    for (_, ours), (_, theirs) in zip(host.run(planned), executor.run(planned), strict=True):
        worst += [float((one - other).abs().mean()) for one, other in zip(ours, theirs, strict=True)]
    # Another conversion to RGB; wrong frames would differ by a quarter of the range.
    assert max(worst) < 4 / 255 / min(FORMAT.std)
    assert np.isfinite(worst).all()
    host.close()
    executor.close()
