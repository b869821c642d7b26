"""Frames and flow belong together by id and by length, and what does not is told by name."""

import re

import numpy as np
import pytest

from data_process.build import build
from data_process.build_config import BuildConfig
from data_process.errors import InputError
from data_process.flow_pairs import FlowOfVideos, pair_flow
from data_process.shard_writer import write_dataset
from data_process.shards import ShardSet
from data_process.source import SourceRequest
from data_process.transcode_config import TranscodeConfig
from tests.sample_videos import write_video

UNIT = b"\xff\xd8 any \xff\xd9"


def stored(root, lengths, codec="jpeg"):
    """A dataset of the given ids and numbers of frames; nothing decodes them."""
    videos = [({"id": name, "width": 40, "height": 32, "codec": codec}, [UNIT] * n) for name, n in lengths.items()]
    return ShardSet(write_dataset(root, videos, videos_per_shard=2))


def test_each_video_is_given_the_flow_of_its_id(tmp_path):
    frames = stored(tmp_path / "rgb", {name: 5 + ord(name) for name in "abcdefg"})
    flow = stored(tmp_path / "flow", {name: 4 + ord(name) for name in "gcabfed"}, "flow-jpeg")
    place = pair_flow(frames, flow)
    assert place.dtype == np.int64
    assert [flow[int(row)].id for row in place] == [record.id for record in frames] == list("abcdefg")


def test_flow_stands_in_the_order_of_its_videos_under_their_labels(tmp_path):
    frames = stored(tmp_path / "rgb", {name: 5 + ord(name) for name in "abcdefg"})
    flow = stored(tmp_path / "flow", {name: 4 + ord(name) for name in "gcabfed"}, "flow-jpeg")
    ordered = FlowOfVideos(frames, flow, pair_flow(frames, flow))
    assert list(ordered.ids()) == [record.id for record in ordered] == list("abcdefg")
    assert (ordered.num_frames == frames.num_frames - 1).all()
    assert {record.codec for record in ordered} == {"flow-jpeg"}
    assert (ordered.name, ordered.split, ordered.classes) == (flow.name, frames.split, frames.classes)
    assert np.array_equal(ordered.labels, frames.labels)
    assert ordered.read_frames(3, [1]).units == flow.read_frames(6, [1]).units
    assert ordered[ordered.index_of("d")].id == "d"


def test_builds_of_one_source_are_paired_row_by_row(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV (the extra `flow`) is not installed")
    for number in range(5):
        write_video(tmp_path / "in" / "ab"[number % 2] / f"{number}.mp4", seed=number, frames=18 + number)
    # At sixty frames a second every second frame is kept, of flow as of frames.
    write_video(tmp_path / "in" / "fast.mp4", frames=41, fps=60)
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no video")
    sets = []
    for codec in ("jpeg", "flow-jpeg"):
        config = BuildConfig(transcode=TranscodeConfig(codec=codec), videos_per_shard=3, jobs=2, max_bad=1.0)
        build("folder", SourceRequest(tmp_path / "in"), tmp_path / codec, config)
        sets.append(ShardSet(tmp_path / codec))
    frames, flow = sets
    assert pair_flow(frames, flow).tolist() == list(range(6))
    assert {record.id: record.num_frames for record in flow}["fast"] == 20


@pytest.mark.parametrize(
    ("rgb", "flow", "told"),
    [
        ("abc", "ab", "1 videos are in {rgb} and not in {flow}: c."),
        ("ab", "abd", "1 videos are in {flow} and not in {rgb}: d."),
        ("abc", "bcd", "1 videos are in {rgb} and not in {flow}: a; 1 videos are in {flow} and not in {rgb}: d."),
    ],
)
def test_videos_that_one_of_them_lacks_are_named(tmp_path, rgb, flow, told):
    frames = stored(tmp_path / "rgb", dict.fromkeys(rgb, 9))
    others = stored(tmp_path / "flow", dict.fromkeys(flow, 8), "flow-jpeg")
    with pytest.raises(InputError, match=re.escape(told.format(rgb=frames.name, flow=others.name))):
        pair_flow(frames, others)


@pytest.mark.parametrize("length", [7, 9])
def test_flow_of_another_length_is_named_with_both_counts(tmp_path, length):
    frames = stored(tmp_path / "rgb", {"a": 9, "b": 9})
    flow = stored(tmp_path / "flow", {"a": 8, "b": length}, "flow-jpeg")
    with pytest.raises(InputError, match=rf"the flow of 1 of 2 videos is not .*: b \(9 and {length}\);"):
        pair_flow(frames, flow)


def test_folders_in_the_wrong_place_are_told(tmp_path):
    frames, flow = stored(tmp_path / "rgb", {"a": 9}), stored(tmp_path / "flow", {"a": 8}, "flow-jpeg")
    with pytest.raises(InputError, match=r"flow holds flow-jpeg, frames are wanted; .*--modality rgb"):
        pair_flow(flow, frames)
    with pytest.raises(InputError, match=r"rgb holds jpeg, flow is wanted; .*--modality flow"):
        pair_flow(frames, frames)
