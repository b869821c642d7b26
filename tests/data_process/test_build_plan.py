import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_process.build_plan import agree_on_plan, make_plan, manifest_lines, number_classes
from data_process.errors import InputError
from data_process.source import SourceVideo

SOURCE = Path("/videos")


def videos(count, classes=("run", "jump")):
    return [
        SourceVideo(SOURCE / f"{number}.mp4", f"{number:04d}", classes[number % len(classes)])
        for number in range(count)
    ]


def plan_of(given_videos, **changes):
    options = {"classes": None, "settings": {"quality": 3}, "tool": "ffmpeg 1"}
    return make_plan(given_videos, source=SOURCE, **{**options, **changes})


@given(count=st.integers(1, 300), per_shard=st.integers(1, 70), seed=st.integers(0, 2**40))
def test_shards_hold_every_video_once(count, per_shard, seed):
    plan = plan_of(videos(count), videos_per_shard=per_shard, seed=seed)
    positions = [position for number in range(plan.num_shards) for position in plan.shard(number)]
    assert positions == list(range(count))
    assert sorted(video.id for video in plan.videos) == [video.id for video in videos(count)]
    assert all(plan.classes[label] == video.class_name for label, video in zip(plan.labels, plan.videos, strict=True))


def test_the_order_depends_on_seed_and_ids_alone():
    plan = plan_of(videos(200))
    assert plan_of(videos(200)[::-1], videos_per_shard=7).videos == plan.videos
    assert plan_of(videos(200), seed=1).videos != plan.videos
    kept = [video for video in plan.videos if video.id < "0150"]
    assert list(plan_of(videos(150)).videos) == kept


def test_classes_are_mixed():
    classes = [video.class_name for video in plan_of(videos(1000)).videos]
    changes = sum(one != two for one, two in itertools.pairwise(classes))
    assert 430 < changes < 570


def test_large_sets_get_large_shards():
    assert [plan_of(videos(count)).videos_per_shard for count in (10, 4096, 4097)] == [64, 64, 512]


@pytest.mark.parametrize(
    ("given_names", "classes", "expected"),
    [
        (["b", "a", "b"], None, (("a", "b"), (1, 0, 1))),
        (["10", "9", "10"], None, (("9", "10"), (1, 0, 1))),
        (["10", "x"], None, (("10", "x"), (0, 1))),
        (["b", None, "a"], None, (("a", "b"), (1, -1, 0))),
        ([None, None], None, ((), (-1, -1))),
        (["a", "b"], ["b", "c", "a"], (("b", "c", "a"), (2, 0))),
        (["2", "0"], ["b", "c", "a"], (("b", "c", "a"), (2, 0))),
        (["1", "0"], ["1", "0"], (("1", "0"), (0, 1))),
    ],
)
def test_labels_follow_the_class_list_or_the_sorted_names(given_names, classes, expected):
    given_videos = [SourceVideo(SOURCE / "x", str(number), name) for number, name in enumerate(given_names)]
    assert number_classes(given_videos, classes) == expected


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        (["run"], r"1 classes are not in the class list \(run, ...\): jump; .*--classes"),
        (["run", "run"], "more than once"),
    ],
)
def test_unknown_and_doubled_classes_are_wrong_input(classes, named):
    with pytest.raises(InputError, match=named):
        number_classes(videos(4), classes)


def test_an_index_outside_of_the_class_list_is_wrong_input():
    with pytest.raises(InputError, match="not in the class list"):
        number_classes([SourceVideo(SOURCE / "x", "x", "3")], ["a", "b", "c"])


def test_a_wrong_split_is_wrong_input():
    with pytest.raises(InputError, match="split 'dev'; expected one of train, val, test"):
        SourceVideo(SOURCE / "x", "x", None, "dev")


def test_the_manifest_does_not_say_where_the_source_lies(tmp_path):
    lines = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        lines.append(manifest_lines([SourceVideo(tmp_path / name / "a/x.mp4", "a/x", "a")], [0], tmp_path / name))
    assert lines[0] == lines[1]
    assert json.loads(lines[0]) == {"class": "a", "id": "a/x", "label": 0, "path": "a/x.mp4", "split": "train"}


def agree(out, plan):
    agree_on_plan(out, plan, b"manifest")


def test_the_same_plan_agrees_with_itself(tmp_path):
    agree(tmp_path, plan_of(videos(5)))
    content = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    agree(tmp_path, plan_of(videos(5)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == content
    assert set(content) == {"plan.json", "manifest.jsonl"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"settings": {"quality": 5}}, "quality was 3, now 5"),
        ({"tool": "ffmpeg 2"}, "ffmpeg was ffmpeg 1, now ffmpeg 2"),
        ({"videos_per_shard": 2}, "videos_per_shard was 64, now 2"),
        ({"seed": 4}, "seed was 0, now 4"),
        ({"classes": ["jump", "run", "sit"]}, "classes differ"),
    ],
)
def test_another_plan_stops_and_says_what_differs(tmp_path, changes, named):
    agree(tmp_path, plan_of(videos(5)))
    with pytest.raises(InputError, match=f"another plan: .*{named}.*or another output folder"):
        agree(tmp_path, plan_of(videos(5), **changes))


def test_other_videos_stop(tmp_path):
    agree(tmp_path, plan_of(videos(5)))
    with pytest.raises(InputError, match="the videos, their classes or splits changed"):
        agree(tmp_path, plan_of(videos(6)))


@pytest.mark.parametrize("name", ["shard-000000.lmdb", "index.json"])
def test_a_folder_with_another_dataset_stops(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"another dataset without plan.json .*{name}"):
        agree(tmp_path, plan_of(videos(5)))


def test_a_task_that_starts_while_another_writes_the_plan_goes_on(tmp_path):
    (tmp_path / "manifest.jsonl").write_bytes(b"manifest")
    (tmp_path / "slurm-1.out").touch()
    agree(tmp_path, plan_of(videos(5)))
    assert json.loads((tmp_path / "plan.json").read_text())["videos"] == 5


def test_a_broken_plan_is_named(tmp_path):
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan.json cannot be read"):
        agree(tmp_path, plan_of(videos(5)))
