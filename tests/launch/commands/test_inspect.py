"""`intravid inspect`: pages, splits and refusals."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import launch.seen
from data_process import contact_sheet
from data_process.shard_writer import write_dataset
from launch.cli import main
from launch.config import load_run
from pipelines.plan_sheet import PlanSheetLayout
from tests.sample_videos import small_dataset, write_video


@pytest.fixture
def shards(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (32, 24), (90, 120, 200)).save(stream, "JPEG")
    videos = [
        ({"id": f"v{number}", "width": 32, "height": 24, "split": "test" if number == 4 else "train"},
         [stream.getvalue()] * 3)
        for number in range(5)
    ]  # fmt: skip
    return write_dataset(tmp_path / "shards", videos)


def test_few_videos_go_to_one_sheet(shards, tmp_path, capsys):
    target = tmp_path / "sheet.png"
    assert main(["inspect", str(shards), "-o", str(target)]) == 0
    assert capsys.readouterr().out.split() == [str(target)]
    with Image.open(target) as sheet:
        assert sheet.format == "PNG"
        assert sheet.height > 5 * 24


def test_many_videos_go_to_numbered_pages(shards, tmp_path):
    assert main(["inspect", str(shards), "-o", str(tmp_path / "sheet.png"), "--rows", "2"]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [f"sheet-{page:03d}.png" for page in (1, 2, 3)]


def test_a_split_and_a_number_of_videos_can_be_chosen(shards, tmp_path):
    heights = []
    for words in ([], ["--videos", "2"], ["--split", "test"]):
        assert main(["inspect", str(shards), "-o", str(tmp_path / "sheet.png"), *words]) == 0
        with Image.open(tmp_path / "sheet.png") as sheet:
            heights.append(sheet.height)
    assert heights == sorted(set(heights), reverse=True)


def test_an_unreadable_video_gives_status_1_and_a_sheet(tmp_path, capsys):
    root = write_dataset(tmp_path / "shards", [({"id": "a", "width": 8, "height": 8}, [b"\xff\xd8\xff\xd9"])])
    assert main(["inspect", str(root), "-o", str(tmp_path / "sheet.png")]) == 1
    assert "1 of 1 videos cannot be read" in capsys.readouterr().out
    assert (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "sheet.jpg"], ".png"),
        (["-o", "nowhere/sheet.png"], "does not exist"),
        (["--videos", "0"], "--videos"),
        (["--frames", "0"], "--frames"),
        (["--rows", "0"], "--rows"),
        (["--tile", "0"], "--tile"),
        (["--split", "val"], "val"),
    ],
)
def test_a_wrong_option_ends_with_status_2_and_one_paragraph(shards, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", str(shards), *words]) == 2
    printed = capsys.readouterr().err
    assert told in printed
    assert printed.count("\n") == 1


def test_a_folder_without_shards_ends_with_status_2(tmp_path, capsys):
    assert main(["inspect", str(tmp_path), "-o", str(tmp_path / "sheet.png")]) == 2
    assert "intravid build" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "missing"), "-o", str(tmp_path / "sheet.png")]) == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    for split, name in (("train", "run/a"), ("train", "walk/b"), ("test", "run/c")):
        write_video(root / split / f"{name}.mp4", frames=8)
    return root


@pytest.mark.parametrize("source", ["", "train/run/a.mp4"])
def test_videos_are_drawn_before_anything_is_built(folder, tmp_path, source):
    with Image.open(draw(folder / source, tmp_path / "sheet.png")) as sheet:
        pixels = np.asarray(sheet).astype(int)
    # Beside the text stand the pictures: as many rows of them as there are videos, in saturated colours.
    beside = pixels[:, 258:]
    coloured = ((beside.max(axis=2) - beside.min(axis=2)) > 60).mean(axis=1) > 0.3
    assert np.count_nonzero(np.diff(coloured.astype(int)) == 1) == (1 if source else 3)


def draw(source, target, *words, status=0):
    assert main(["inspect", str(source), "-o", str(target), *words]) == status
    return target


def test_a_split_of_video_files_can_be_chosen(folder, tmp_path, capsys):
    heights = []
    for words in ([], ["--split", "train"], ["--split", "test"]):
        with Image.open(draw(folder, tmp_path / "sheet.png", *words)) as sheet:
            heights.append(sheet.height)
    assert heights == sorted(set(heights), reverse=True)
    draw(folder, tmp_path / "sheet.png", "--split", "val", status=2)
    assert "no videos of the split 'val'" in capsys.readouterr().err


def test_a_file_that_a_build_would_leave_out_has_a_row_with_the_reason(tmp_path, capsys, monkeypatch):
    rows = []
    monkeypatch.setattr(
        contact_sheet, "draw_sheet", lambda title, page, layout: rows.extend(page) or Image.new("L", (1, 1))
    )
    write_video(tmp_path / "videos" / "good.mp4", frames=8)
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"no video")
    draw(tmp_path / "videos", tmp_path / "sheet.png", status=1)
    assert "1 of 2 videos cannot be read; `intravid build` would leave them out" in capsys.readouterr().out
    found = {row.name: (row.warning.split(":")[0], len(row.pictures)) for row in rows}
    assert found == {"bad": ("unreadable", 0), "good": ("", 8)}


def test_the_file_of_a_shard_is_no_video(shards, tmp_path, capsys):
    draw(next(shards.glob("*.lmdb")), tmp_path / "sheet.png", status=2)
    assert "intravid" in capsys.readouterr().err


def seen(shards, target, *words):
    assert main(["inspect", *words, f"--data.root={shards}", "-o", str(target), "--videos", "4"]) == 0
    with Image.open(target) as sheet:
        return np.asarray(sheet)


SMALL = ("--method.clip.num_frames=4", "--method.clip.size=16", "--method.backbone.width=2")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("dataset"), videos=24)


def test_what_a_recipe_sees_is_drawn_for_any_step(dataset, tmp_path, capsys):
    recipe = ("--config", "configs/smoke/iic.yaml", *SMALL)
    first = seen(dataset, tmp_path / "a.png", *recipe)
    assert capsys.readouterr().out.split() == [str(tmp_path / "a.png")]
    assert np.array_equal(first, seen(dataset, tmp_path / "b.png", *recipe, "--step", "0"))
    assert not np.array_equal(first, seen(dataset, tmp_path / "c.png", *recipe, "--step", "5"))


def test_ranks_share_what_the_whole_batch_shows(dataset, tmp_path):
    recipe = ("--config", "configs/smoke/iic.yaml", *SMALL, "--train.global_batch=4")
    whole = seen(dataset, tmp_path / "whole.png", *recipe)
    ranks = [seen(dataset, tmp_path / "rank.png", *recipe, f"--rank={rank}", "--ranks=2") for rank in range(2)]
    title = 33  # rows of the first line, which names the rank
    assert np.array_equal(whole[title:], np.concatenate([part[title:] for part in ranks]))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--config", "configs/smoke/iic.yaml", "--run", "runs/x"], "give one"),
        (["--run", "nowhere"], "there is no recipe nowhere/config.yaml"),
        (["--config", "configs/smoke/iic.yaml", "--step", "-1"], "step -1"),
        (["--config", "configs/smoke/iic.yaml", "--rank", "2", "--ranks", "2"], "rank 2 of 2"),
        (["shards", "--data.root=x"], "--data.root=x is no option"),
    ],
)
def test_sheets_that_cannot_be_drawn_are_refused(words, why, capsys, tmp_path):
    assert main(["inspect", *words, "-o", str(tmp_path / "sheet.png")]) == 2
    assert why in capsys.readouterr().err


def test_stills_of_others_are_those_that_the_rank_saw_in_the_whole_batch(dataset, monkeypatch):
    drawn = []

    def note(title, batch, clips, stored, clip_format, layout, *, derived):
        drawn.append((batch.index.tolist(), derived["anchor"]))
        return Image.new("L", (1, 1))

    monkeypatch.setattr(launch.seen, "draw_plan_sheet", note)
    changes = ["--method.clip.inter_mix_strength=1.0", "--data.root", str(dataset)]
    loaded = load_run(Path("configs/smoke/vtdl.yaml"), changes)
    for part in ({}, {"rank": 1, "ranks": 2, "samples": 3}):
        launch.seen.draw_seen(loaded, step=1, layout=PlanSheetLayout(), **part)
    (whole, everyone), (part, theirs) = drawn
    assert (len(whole), len(part)) == (8, 3)
    assert part == whole[4:7]
    assert torch.equal(theirs, everyone[4:7])
