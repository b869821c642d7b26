from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import numpy as np
import pytest
import torch

from data_process.errors import InputError
from engine.extract import joined_parts, write_parts
from engine.features import EvalConfig
from engine.world import World
from pipelines.batch import ViewBatch
from tests.engine.tiny import TinyBackbone

NUM_VIDEOS, PART = 11, 2


@dataclass(frozen=True)
class Meeting:
    """Where threads that stand for ranks wait for each other and show what they have."""

    barrier: Barrier
    shown: dict


@dataclass(frozen=True)
class ThreadWorld(World):
    """Ranks that are threads of one process."""

    meeting: Meeting | None = None

    def gather(self, value):
        self.meeting.shown[self.rank] = value
        self.meeting.barrier.wait(timeout=60)
        values = [self.meeting.shown[rank] for rank in range(self.world_size)]
        self.meeting.barrier.wait(timeout=60)
        return values

    def largest(self, value):
        return max(self.gather(value))


def network():
    torch.manual_seed(0)
    return TinyBackbone()


def batches(indices):
    """Two views of every video, three videos side by side; a video of an odd index has two rows, as windows do."""
    rows = [index for index in indices for _ in range(1 + index % 2)]
    for first in range(0, len(rows), 3):
        part = rows[first : first + 3]
        views = [torch.stack([torch.full((3, 4, 4, 4), 0.1 * index + view) for index in part]) for view in range(2)]
        yield ViewBatch(tuple(views), torch.tensor(part))


def written(folder, ranks, *, folders=None):
    meeting = Meeting(Barrier(ranks), {})
    networks = [network() for _ in range(ranks)]  # before the threads: they share the generator that draws the weights

    def work(rank):
        world = ThreadWorld(rank, ranks, rank, ranks, meeting=meeting)
        return write_parts(
            networks[rank], batches, EvalConfig(feature="pooled"), folder=(folders or [folder] * ranks)[rank],
            num_videos=NUM_VIDEOS, per_clip=True, world=world, label="features", part_videos=PART,
        )  # fmt: skip

    with ThreadPoolExecutor(ranks) as threads:
        return list(threads.map(work, range(ranks)))


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_any_number_of_ranks_writes_the_same_rows(tmp_path, ranks):
    assert written(tmp_path / "one", 1) == [0]
    assert written(tmp_path / "many", ranks) == [0] * ranks
    one, many = (joined_parts(tmp_path / name, NUM_VIDEOS, PART) for name in ("one", "many"))
    assert one.keys() == many.keys() == {"videos", "counts", "clips"}
    for name, values in one.items():
        assert np.array_equal(values, many[name])
    assert one["counts"].tolist() == [2 + 2 * (index % 2) for index in range(NUM_VIDEOS)]


def test_other_ranks_go_on_where_some_ended(tmp_path):
    written(tmp_path, 3)
    kept = joined_parts(tmp_path, NUM_VIDEOS, PART)
    for name in ("part-000000002.npz", "part-000000010.npz"):
        (tmp_path / name).unlink()
    (tmp_path / "part-000000002.npz.tmp.1").write_bytes(b"half")
    assert written(tmp_path, 2) == [4, 4]
    for name, values in joined_parts(tmp_path, NUM_VIDEOS, PART).items():
        assert np.array_equal(values, kept[name])
    assert not list(tmp_path.glob("*.tmp.*"))


def test_ranks_that_do_not_share_the_folder_are_told(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="is not the same folder for all ranks"):
        written(tmp_path, 2, folders=[tmp_path / "a", tmp_path / "b"])
