"""Damaged frames in a run: told, shown as their neighbours, counted, and never more than allowed."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pytest
import simplejpeg
import torch

from data_process.errors import InputError, RunError
from data_process.shard_writer import shard_name, write_dataset
from data_process.shards import ShardSet
from pipelines.draw import clip_frames, random_start
from pipelines.loader import PipelineConfig, build_loader
from pipelines.mending import MendedVideos, Mender
from pipelines.plan import Box, ClipFormat, ClipPlan, SamplePlan
from tests.pipelines.memory_shards import generated

HEIGHT, WIDTH, FRAMES, VIDEOS = 40, 48, 12, 6


@dataclass(frozen=True)
class Planner:
    """Four frames in a row from a drawn start, or the same with frames shown as others."""

    shown: tuple[tuple[str, int, int], ...] = ()

    def __call__(self, rng, record):
        frames = clip_frames(random_start(rng, video_frames=record.num_frames, num_frames=4), num_frames=4)
        instead = {number: other for video, number, other in self.shown if video == record.id}
        clip = ClipPlan(tuple(instead.get(frame, frame) for frame in frames), Box(0, 0, HEIGHT, WIDTH))
        return SamplePlan((clip,))


FORMAT = ClipFormat(1, 4, 32)


def write(root):
    rng = np.random.default_rng(1)
    videos = [
        (
            {"id": f"v{number}", "height": HEIGHT, "width": WIDTH},
            [
                simplejpeg.encode_jpeg(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), quality=90)
                for _ in range(FRAMES)
            ],
        )
        for number in range(VIDEOS)
    ]
    write_dataset(root, videos)
    return root


def damage(root, video, *numbers):
    """Flip a byte inside of frames on the disk."""
    whole = ShardSet(root, split="train")
    units = whole.read_frames(whole.index_of(video), numbers).units
    path = root / shard_name(0)
    content = bytearray(path.read_bytes())
    for unit in units:
        place = content.find(unit)
        assert content.count(unit) == 1
        content[place + len(unit) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.fixture(params=["host", "dali"])
def config(request):
    if request.param == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    return PipelineConfig(backend=request.param, threads=1)


def steps(root, config, planner, count, **world):
    videos = ShardSet(root, split="train")
    with build_loader(videos, planner, FORMAT, config=config, seed=3, global_batch=VIDEOS, **world) as loader:
        taken = []
        for batch in loader.batches(0):
            taken.append(batch.clips[0])
            if len(taken) == count:
                return taken
    return taken


def test_a_damaged_frame_is_shown_as_its_neighbour_and_told_once(tmp_path, config, caplog):
    damaged, whole = write(tmp_path / "damaged"), write(tmp_path / "whole")
    damage(damaged, "v2", 5, 6)
    # The nearest intact frame of those that the clip has; of two at the same distance the earlier.
    with caplog.at_level(logging.WARNING):
        ours = steps(damaged, config, Planner(), 8)
    told = [record.getMessage() for record in caplog.records if "damaged frame" in record.getMessage()]
    assert len(told) == len({text.split("frame ")[1] for text in told}) <= 2
    assert all("shard-" in text and "(v2): the checksum of frame" in text for text in told)
    sound = steps(whole, config, Planner(), 8)
    changed = 0
    for one, other in zip(ours, sound, strict=True):
        for clip, unhurt in zip(one.unbind(), other.unbind(), strict=True):
            same = [torch.equal(a, b) for a, b in zip(clip.unbind(1), unhurt.unbind(1), strict=True)]
            changed += not all(same)
            for place in (place for place in range(4) if not same[place]):
                neighbours = [p for p in range(4) if same[p]]
                nearest = min(neighbours, key=lambda other, place=place: (abs(other - place), other))
                assert torch.equal(clip[:, place], clip[:, nearest])
    assert changed, "no drawn clip met the damage"


def test_ranks_and_threads_show_the_same(tmp_path, config):
    root = write(tmp_path / "damaged")
    damage(root, "v1", 3, 4, 5)
    alone = steps(root, config, Planner(), 4)
    many = steps(root, replace(config, threads=3, readers=4), Planner(), 4)
    halves = [steps(root, config, Planner(), 4, rank=rank, world_size=2) for rank in range(2)]
    for step, clips in enumerate(alone):
        assert torch.equal(clips, many[step])
        assert torch.equal(clips, torch.cat([halves[0][step], halves[1][step]]))


def test_one_frame_too_many_stops_the_run_and_is_named(tmp_path, config):
    root = write(tmp_path / "damaged")
    damage(root, "v0", *range(0, FRAMES, 2))
    with pytest.raises(RunError, match=r"damaged frame 3, more than pipeline.max_damaged_frames 2: .*shard-.*\(v0\)"):
        steps(root, replace(config, max_damaged_frames=2), Planner(), 50)
    with pytest.raises(RunError, match=r"shard-.*record 0 \(v0\): the checksum of frame"):
        steps(root, replace(config, max_damaged_frames=0), Planner(), 50)


def test_a_video_of_which_nothing_is_intact_is_never_replaced(tmp_path, config):
    root = write(tmp_path / "damaged")
    damage(root, "v4", *range(FRAMES))
    with pytest.raises(RunError, match=r"\(v4\): the checksum of frame"):
        steps(root, replace(config, max_damaged_frames=1000), Planner(), 2)


def test_a_frame_that_was_stored_damaged_is_mended_too():
    videos = generated(1)
    unit = videos.units[0][4]
    videos.units[0][4] = unit[: len(unit) // 2]
    mender = Mender(1)
    frames = MendedVideos(videos, mender).read_frames(0, [2, 3, 4])
    pixels = mender.decode(frames, videos[0])
    assert np.array_equal(pixels[4], pixels[3])
    assert not np.array_equal(pixels[3], pixels[2])
    assert mender.num_damaged == 1
    mender.decode(frames, videos[0])
    assert mender.num_damaged == 1, "counted once"


def test_damage_to_a_stream_is_an_error():
    class Streams:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return replace(generated(1)[0], codec="mp4")

        def read_frames(self, index, frames):
            raise RunError("the checksum of the video does not match")

    with pytest.raises(RunError, match="of the video"):
        Mender(100).read(Streams(), 0, [1, 2])


def test_a_limit_below_zero_is_refused():
    with pytest.raises(InputError, match=r"pipeline.max_damaged_frames \(-1\)"):
        PipelineConfig(max_damaged_frames=-1)
