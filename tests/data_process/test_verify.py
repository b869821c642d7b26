import json
import re

import pytest

from data_process.errors import InputError
from data_process.index import read_index, write_index
from data_process.quarantine import write_report
from data_process.shard_writer import list_shards, write_dataset
from data_process.verify import LEVELS, VerifyConfig, move_damaged, verify
from tests.sample_videos import jpegs, small_dataset


@pytest.fixture
def root(tmp_path):
    root = small_dataset(tmp_path / "data", videos=6)
    ids = list(read_index(root).ids)
    (root / "manifest.jsonl").write_text("".join(json.dumps({"id": one}) + "\n" for one in ids))
    (root / "plan.json").write_text(json.dumps({"shards": 2, "classes": ["a", "b"]}))
    return root


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


def place(root):
    row = read_index(root).rows[0]
    return int(row["offset"]), int(row["offset"]) + int(row["length"])


def flip_in_last_frame(root):
    flip(root / FIRST, place(root)[1] - 100)


def add_to_manifest(root, video_id):
    with (root / "manifest.jsonl").open("a") as file:
        file.write(json.dumps({"id": video_id}) + "\n")


def cut_to(path, size):
    path.write_bytes(path.read_bytes()[:size])


def reindexed_elsewhere(root):
    described = json.loads((root / "index.json").read_text())
    described["shards"]["0"]["offsets_sha256"] = "0" * 64
    (root / "index.json").write_text(json.dumps(described))


def relabelled(root):
    """The same ids and places, other labels in the shards than in the index."""
    index = {name: (root / name).read_bytes() for name in ("index.npy", "ids.bin")}
    frames = {row: jpegs(row, frames=20 + row) for row in range(6)}
    write_dataset(
        root,
        [
            ({"id": f"{'ab'[n % 2]}/video {n}", "label": 1 - n % 2, "split": "test" if n % 3 == 2 else "train",
              "width": 40, "height": 32, "fps": (30000, 1001)}, frames[n])
            for n in range(6)
        ],
        classes=("a", "b"),
        videos_per_shard=4,
    )  # fmt: skip
    for name, content in index.items():
        (root / name).write_bytes(content)


FIRST = "shard-000000.lmdb"
DAMAGE = [
    (0, "in the index but missing", lambda root: (root / FIRST).unlink()),
    (0, "has 0 bytes, the index says", lambda root: cut_to(root / FIRST, 0)),
    (0, "has 20000 bytes, the index says", lambda root: cut_to(root / FIRST, 20_000)),
    (0, "1 of 3 planned shards", lambda root: (root / "plan.json").write_text('{"shards": 3}')),
    (0, "left over from a build", lambda root: (root / f"{FIRST}.tmp.host.1").touch()),
    (0, "is not in the index", lambda root: (root / "shard-000005.lmdb").touch()),
    (1, "not an LMDB file", lambda root: flip(root / FIRST, 16)),
    (1, "lie elsewhere than indexed", reindexed_elsewhere),
    (1, "neither stored nor in a report: lost", lambda root: add_to_manifest(root, "lost")),
    (1, "stored, but not in the manifest: a/video 0", lambda root: (root / "manifest.jsonl").write_text("")),
    (2, "record 0: the checksum of the record's header", lambda root: flip(root / FIRST, place(root)[0] + 30)),
    (2, "record 0: expected a record that begins with b'IVR1'", lambda root: flip(root / FIRST, place(root)[0])),
    (2, "the index says otherwise about its label", relabelled),
    (3, r"record 0: a/video 0: the checksums of 1 of 20 units do not match: 19", flip_in_last_frame),
]  # fmt: skip


@pytest.mark.parametrize(("level", "named", "damage"), DAMAGE, ids=[named for _, named, _ in DAMAGE])
def test_damage_is_found_at_its_level_and_above(root, level, named, damage):
    damage(root)
    for tried in LEVELS:
        found = "\n".join(map(str, verify(root, VerifyConfig(level=tried))))
        assert bool(re.search(named, found)) == (tried >= level), found


def test_an_intact_dataset_has_no_damage_at_any_level(root):
    assert [verify(root, VerifyConfig(level=level)) for level in LEVELS] == [[]] * len(LEVELS)


def test_a_video_that_a_report_names_is_not_lost(root):
    add_to_manifest(root, "bad")
    write_report(root, 1, [{"id": "bad", "stored": False, "code": "unreadable", "detail": ""}])
    assert verify(root, VerifyConfig(level=1)) == []


def test_all_damage_is_listed_and_not_only_the_first(root):
    flip_in_last_frame(root)
    cut_to(root / "shard-000001.lmdb", 9000)
    assert [damage.path.name for damage in verify(root, VerifyConfig(level=3))] == [FIRST, "shard-000001.lmdb"]


def test_wrong_levels_and_folders_are_wrong_input(root, tmp_path):
    with pytest.raises(InputError, match="levels are 0 to 4"):
        VerifyConfig(level=5)
    for wrong in ({"every": 0}, {"jobs": -1}, {"task": 2, "tasks": 2}):
        with pytest.raises(InputError, match="--" + next(iter(wrong))):
            VerifyConfig(**wrong)
    with pytest.raises(InputError, match="is not a folder"):
        verify(tmp_path / "nowhere")


def test_verifying_anew_after_indexing_finds_nothing(root):
    reindexed_elsewhere(root)
    write_index(root)
    assert verify(root, VerifyConfig(level=3)) == []


def test_frames_that_were_stored_broken_are_found_by_decoding(tmp_path):
    good = jpegs(0, frames=8)
    facts = {"width": 40, "height": 32}
    bad = [*good[:4], b"\xff\xd8 no picture \xff\xd9", *good[5:]]
    root = write_dataset(tmp_path, [({"id": "good", **facts}, good), ({"id": "bad", **facts}, bad)])
    assert verify(root, VerifyConfig(level=3)) == []
    (damage,) = verify(root, VerifyConfig(level=4, every=4))
    assert "record 1: bad, frame 4: the stored JPEG cannot be decoded" in str(damage)
    assert verify(root, VerifyConfig(level=4, every=3)) == [], "frames 0, 3 and 6 are whole"


def test_tasks_share_the_shards_and_the_folder_is_checked_once(root):
    flip_in_last_frame(root)
    cut_to(root / "shard-000001.lmdb", 9000)
    (root / "shard-000009.lmdb.tmp.x.1").touch()
    everything = set(map(str, verify(root, VerifyConfig(level=3))))
    parts = [set(map(str, verify(root, VerifyConfig(level=3, task=task, tasks=3)))) for task in range(3)]
    assert set().union(*parts) == everything
    assert sum(map(len, parts)) == len(everything) == 3


def test_damaged_shards_are_moved_aside_with_their_reports(root):
    write_report(root, 1, [{"id": "x", "stored": False, "code": "unreadable", "detail": ""}])
    cut_to(root / "shard-000001.lmdb", 9000)
    moved = move_damaged(root, verify(root, VerifyConfig(level=0)))
    assert [path.name for path in moved] == ["shard-000001.lmdb", "quarantine-shard-000001.jsonl"]
    assert all(path.parent == root / "damaged" and path.exists() for path in moved)
    assert sorted(list_shards(root)) == [0]
    assert move_damaged(root, []) == []
