import multiprocessing
import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import lmdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_process.data_config import DataConfig
from data_process.errors import InputError, RunError
from data_process.index import read_index
from data_process.shards import ShardSet
from tests.sample_videos import jpegs, small_dataset


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("shards") / "data")


@pytest.fixture
def own(tmp_path):
    """A dataset that a test may damage."""
    return small_dataset(tmp_path / "data", videos=4)


def stored(record):
    """The frames that `small_dataset` put into a video, made again."""
    number = int(record.id.split()[-1])
    return jpegs(number, frames=20 + number)


def test_records_come_from_the_index_in_its_order(root):
    shards = ShardSet(root)
    assert len(shards) == 10
    assert [record.id for record in shards] == [f"{'ab'[n % 2]}/video {n}" for n in (0, 1, 3, 4, 6, 7, 9, 2, 5, 8)]
    record = shards[1]
    assert (record.label, record.split, record.codec, record.num_frames) == (1, "train", "jpeg", 21)
    assert (record.height, record.width, record.fps) == (32, 40, pytest.approx(29.97))
    assert shards[-1] == shards[9]
    assert shards.classes == ("a", "b")
    assert shards.labels.dtype == np.int64
    assert shards.labels.tolist() == [record.label for record in shards]
    assert shards.num_frames.tolist() == [record.num_frames for record in shards]
    with pytest.raises(IndexError):
        shards[10]


def test_a_split_holds_its_own_videos_numbered_from_0(root):
    test = ShardSet(root, split="test")
    assert [record.id for record in test] == ["a/video 2", "b/video 5", "a/video 8"]
    assert test.index_of("b/video 5") == 1
    with pytest.raises(KeyError, match="a/video 0"):
        test.index_of("a/video 0")
    with pytest.raises(InputError, match="no split 'val'; its splits are: train, test"):
        ShardSet(root, split="val")


@pytest.mark.parametrize("reader", ["pread", "lmdb"])
def test_all_frames_are_those_that_were_stored(root, reader):
    shards = ShardSet(root, reader=reader)
    for index, record in enumerate(shards):
        assert list(shards.read_frames(index, range(record.num_frames)).units) == stored(record)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    index=st.integers(0, 9),
    frames=st.lists(st.integers(0, 19), max_size=30),
    max_gap=st.sampled_from([0, 1, 500, 3000, 10**9]),
)
def test_each_frame_asked_for_comes_once_whatever_is_joined(root, index, frames, max_gap):
    shards = ShardSet(root, max_gap=max_gap)
    content, read = stored(shards[index]), shards.read_frames(index, frames)
    assert read.codec == "jpeg"
    assert read.numbers == tuple(sorted(set(frames)))
    assert list(read.units) == [content[frame] for frame in read.numbers]


@pytest.mark.parametrize("frames", [[20], [3, -1], [10**6]])
def test_frames_that_a_video_does_not_have_are_refused(root, frames):
    with pytest.raises(IndexError, match="a/video 0: frames"):
        ShardSet(root).read_frames(0, frames)


@pytest.mark.parametrize(
    ("frames", "max_gap", "reads"),
    [(range(16), 0, 1), ([0, 10, 19], 0, 3), ([19, 0, 10], 10**9, 1), ([0, 1, 18, 19], 1000, 2), ([5], 0, 1)],
)
def test_a_clip_costs_the_header_page_and_its_own_bytes(root, monkeypatch, frames, max_gap, reads):
    shards, read, pread = ShardSet(root, max_gap=max_gap), [], os.pread
    shards.read_frames(1, [0])  # the file is open

    def counted(fd, length, offset):
        read.append(length)
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    units = shards.read_frames(0, frames).units
    assert len(read) == 1 + reads
    assert read[0] <= 4096
    if max_gap == 0:
        assert sum(read[1:]) == sum(map(len, units))
    read.clear()
    shards.read_frames(0, frames)
    assert len(read) == reads  # the header is kept


def test_two_splits_can_be_read_through_lmdb_at_once(root):
    train, test = ShardSet(root, split="train", reader="lmdb"), ShardSet(root, split="test", reader="lmdb")
    assert train.read_frames(0, [1]).units == (stored(train[0])[1],)
    assert test.read_frames(0, [1]).units == (stored(test[0])[1],)


def read_everything(shards):
    return [shards.read_frames(index, range(0, 20, 3)) for index in range(len(shards))]


@pytest.mark.parametrize("reader", ["pread", "lmdb"])
def test_many_threads_read_with_one_open_file(root, reader):
    expected = read_everything(ShardSet(root))
    shards = ShardSet(root, max_open=1 if reader == "pread" else 128, reader=reader)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(read_everything, [shards] * 32))
    assert all(result == expected for result in results)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("reader", ["pread", "lmdb"])
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_other_processes_read_the_same(root, start, reader):
    shards = ShardSet(root, reader=reader)
    expected = read_everything(shards)  # files are open, and an LMDB environment too, when the children begin
    with multiprocessing.get_context(start).Pool(2) as pool:
        assert pool.map(read_everything, [shards] * 2) == [expected] * 2
    assert read_everything(shards) == expected


def read_in_child(shards, expected, results):
    same = read_everything(shards) == expected
    environments = {file._values.pid for file in shards._opened.files.values() if file._values is not None}
    results.put(same and environments <= {os.getpid()})


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("reader", ["pread", "lmdb"])
def test_a_child_forked_while_a_thread_holds_the_lock_reads_with_files_of_its_own(root, reader):
    shards, beside = ShardSet(root, reader=reader), ShardSet(root, split="test", reader=reader)
    expected = read_everything(shards)
    read_everything(beside)  # the child inherits its files, too, and never lets go of them
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with shards._opened.lock:
        child = context.Process(target=read_in_child, args=(shards, expected, results))
        child.start()
    try:
        assert results.get(timeout=30)
    finally:
        child.kill()
        child.join()


def test_a_pickled_dataset_keeps_its_settings_and_no_open_file(root):
    shards = ShardSet(root, split="test", check_crc=False, max_gap=7)
    expected = read_everything(shards)
    copy = pickle.loads(pickle.dumps(shards))
    assert (copy.split, copy.check_crc, copy._max_gap, copy.reader) == ("test", False, 7, "pread")
    assert not copy._opened.files
    assert read_everything(copy) == expected


def test_the_digest_pins_identity_and_order_of_the_samples(tmp_path):
    def digest(**changes):
        root = small_dataset(tmp_path / str(len(list(tmp_path.iterdir()))), **{"videos": 6, **changes})
        return ShardSet(root).digest

    first = digest()
    assert digest() == first
    assert digest(videos_per_shard=2) == first  # other files, the same samples in the same order
    assert len({first, digest(videos=7), digest(frames=21), digest(classes=("b", "a"))}) == 4
    assert ShardSet(tmp_path / "0", split="train").digest != first


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


def test_a_flipped_bit_is_named_with_shard_video_and_frame(own):
    shards = ShardSet(own)
    row = read_index(own).rows[0]
    end = int(row["offset"]) + int(row["length"])
    flip(own / "shard-000000.lmdb", end - 100)  # in the last frame, number 19
    assert list(shards.read_frames(0, range(19)).units) == stored(shards[0])[:19]
    with pytest.raises(RunError, match=r"shard-000000.lmdb, record 0 \(a/video 0\): the checksum of frame 19"):
        shards.read_frames(0, [3, 19])
    assert list(ShardSet(own, check_crc=False).read_frames(0, [19]).units) != stored(shards[0])[19:]


def test_a_damaged_header_is_named(own):
    flip(own / "shard-000000.lmdb", int(read_index(own).rows[0]["offset"]) + 30)
    with pytest.raises(RunError, match=r"record 0 \(a/video 0\): the checksum of the record's header"):
        ShardSet(own).read_frames(0, [0])


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def replace_by_another_program(path):
    path.unlink()
    with lmdb.open(str(path), subdir=False, lock=False) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"value")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (truncate, "cut short.*rebuild this shard"),
        (lambda path: path.write_bytes(b""), "too few for an LMDB file"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "wrong magic"),
        (lambda path: path.unlink(), "missing; copy it back"),
        (replace_by_another_program, "not a shard of this format"),
    ],
)
def test_a_damaged_missing_or_foreign_shard_is_wrong_input(own, damage, named):
    damage(own / "shard-000000.lmdb")
    with pytest.raises(InputError, match=f"shard-000000.lmdb.*{named}"):
        ShardSet(own).read_frames(0, [0])


def test_a_shard_cut_short_while_it_is_read_is_an_error_and_no_crash(own):
    shards = ShardSet(own)
    shards.read_frames(0, [0])
    truncate(own / "shard-000000.lmdb")
    with pytest.raises(RunError, match="cut short"):
        read_everything(shards)


def rewrite(source, target):
    with lmdb.open(str(source), subdir=False, readonly=True, lock=False) as env, env.begin() as txn:
        content = dict(txn.cursor())
    source.unlink()
    with lmdb.open(str(target), subdir=False, map_size=64 << 20, lock=False) as env:
        for key in sorted(content, reverse=True):
            with env.begin(write=True) as txn:
                txn.put(key, content[key])


def test_a_rewritten_shard_is_read_at_its_new_places_with_a_warning(own):
    path = own / "shard-000000.lmdb"
    rewrite(path, path)
    shards = ShardSet(own)
    with pytest.warns(UserWarning, match="was rewritten since it was indexed"):
        shards.read_frames(0, [0])
    for index, record in enumerate(shards):
        assert list(shards.read_frames(index, range(record.num_frames)).units) == stored(record)


def test_a_shard_with_other_videos_than_indexed_stops(own, tmp_path):
    other = small_dataset(tmp_path / "other", videos=4, frames=30)
    (own / "shard-000000.lmdb").write_bytes((other / "shard-000000.lmdb").read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(InputError, match=r"30 frames.*where the index lists.*20.*`intravid index"):
            ShardSet(own).read_frames(0, [0])


def test_a_shard_with_fewer_videos_than_indexed_stops(own, tmp_path):
    other = small_dataset(tmp_path / "other", videos=3)
    (own / "shard-000000.lmdb").write_bytes((other / "shard-000000.lmdb").read_bytes())
    with pytest.raises(InputError, match="holds 3 records, the index lists 4; `intravid index"):
        ShardSet(own).read_frames(0, [0])


def test_the_configuration_opens_its_split_or_all(root):
    assert len(DataConfig(str(root)).open()) == 7
    assert len(DataConfig(str(root)).open("test")) == 3
    assert len(DataConfig(str(root), split="all").open()) == 10
    with pytest.raises(InputError, match=r"data.root is not set"):
        DataConfig().open()
