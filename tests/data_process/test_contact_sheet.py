"""Contact sheets show the right frames, every fact, and damage without hiding the other videos."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFont

from data_process.contact_sheet import SheetLayout, VideoRow, _wrapped, draw_sheet, even_numbers, read_row
from data_process.shard_writer import write_dataset
from data_process.shards import ShardSet

LAYOUT = SheetLayout(frames=4, tile=48)


def jpeg(level, size=(60, 40)):
    stream = io.BytesIO()
    Image.new("RGB", size, (level, level, level)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def dataset(root):
    """Video i has frames whose grey level is 10 times their number; video b is degraded, c too short to fill a row."""
    videos = [
        ({"id": "run/a", "width": 60, "height": 40, "label": 1}, [jpeg(10 * frame) for frame in range(21)]),
        ({"id": "b", "width": 40, "height": 60, "state": "degraded"}, [jpeg(50, (40, 60))] * 5),
        ({"id": "walk/c", "width": 20, "height": 10, "label": 0, "split": "test"}, [jpeg(90, (20, 10))] * 2),
    ]
    return write_dataset(root, videos, classes=("walk", "run"))


def rows(shards):
    return {row.name: row for row in (read_row(shards, index, LAYOUT) for index in range(len(shards)))}


def mean_level(picture):
    return float(np.asarray(picture, float).mean())


def test_frames_are_spread_from_the_first_to_the_last(tmp_path):
    row = rows(ShardSet(dataset(tmp_path)))["run/a"]
    assert row.frame_numbers == (0, 7, 13, 20)
    np.testing.assert_allclose([mean_level(picture) for picture in row.pictures], [0, 70, 130, 200], atol=2)


def test_facts_and_the_degraded_state_stand_beside_the_frames(tmp_path):
    found = rows(ShardSet(dataset(tmp_path)))
    assert found["run/a"].facts == ("run", "60 x 40, 25 frames/s", "21 frames, 0.8 s", "train")
    assert found["b"].facts[0] == "no class"
    assert found["walk/c"].facts[3] == "test"
    assert {name: row.warning for name, row in found.items()} == {"run/a": "", "b": "degraded", "walk/c": ""}


def test_pictures_keep_their_shape_and_fit_the_tile(tmp_path):
    sizes = {name: row.pictures[0].size for name, row in rows(ShardSet(dataset(tmp_path))).items()}
    assert sizes == {"run/a": (48, 32), "b": (32, 48), "walk/c": (40, 20)}


def test_a_video_shorter_than_the_row_shows_every_frame_once(tmp_path):
    assert rows(ShardSet(dataset(tmp_path)))["walk/c"].frame_numbers == (0, 1)


def test_a_damaged_video_says_so_and_the_others_are_shown(tmp_path):
    root = dataset(tmp_path)
    shard = next(root.glob("*.lmdb"))
    content = bytearray(shard.read_bytes())
    place = content.find(jpeg(200))
    content[place + 300] ^= 0xFF
    shard.write_bytes(content)
    found = rows(ShardSet(root))
    assert "checksum of frame 20" in found["run/a"].warning
    assert found["run/a"].pictures == ()
    assert len(found["b"].pictures) == 4
    assert draw_sheet("damaged", list(found.values()), LAYOUT).height > 150


def test_a_frame_that_is_no_picture_says_so(tmp_path):
    videos = [({"id": "a", "width": 60, "height": 40}, [b"\xff\xd8 no picture \xff\xd9"])]
    row = read_row(ShardSet(write_dataset(tmp_path, videos)), 0, LAYOUT)
    assert row.warning.startswith("cannot be read")


@pytest.mark.parametrize(
    ("vector", "colour"),
    [
        ((0, 0), (255, 255, 255)),
        ((40, 0), (255, 0, 0)),
        ((-40, 0), (0, 255, 255)),
        ((0, -40), (128, 255, 0)),
        ((0, 40), (128, 0, 255)),
        ((16, 0), (255, 128, 128)),
    ],
    ids=["still", "right", "left", "up", "down", "right, slowly"],
)
def test_flow_has_the_colour_of_its_direction(tmp_path, vector, colour):
    u, v = (np.full((24, 48, 1), 128 + part, np.uint8) for part in vector)
    unit = simplejpeg.encode_jpeg(np.concatenate([u, v]), quality=95, colorspace="GRAY")
    video = {"id": "a", "width": 48, "height": 24, "codec": "flow-jpeg"}
    row = read_row(ShardSet(write_dataset(tmp_path, [(video, [unit] * 3)])), 0, LAYOUT)
    assert row.warning == ""
    assert row.pictures[0].size == (48, 24)
    np.testing.assert_allclose(np.asarray(row.pictures[0])[12, 24].astype(int), colour, atol=6)


def test_a_sheet_shows_each_picture_in_its_column(tmp_path):
    row = rows(ShardSet(dataset(tmp_path)))["run/a"]
    page = np.asarray(draw_sheet("title", [row], LAYOUT)).astype(float)
    top = 2 * LAYOUT.gap + LAYOUT.line + LAYOUT.gap
    for column, level in enumerate((0, 70, 130, 200)):
        left = LAYOUT.text_width + LAYOUT.gap + column * (LAYOUT.tile + LAYOUT.gap)
        np.testing.assert_allclose(page[top + 2 : top + 30, left + 2 : left + 46], level, atol=3)


def test_a_row_is_as_high_as_its_text_or_its_pictures():
    low = VideoRow("a", ("one",), "", (0,), (Image.new("RGB", (48, 10)),))
    high = VideoRow("a", ("one",), "", (0,), (Image.new("RGB", (10, 48)),))
    wordy = VideoRow("a", ("one",) * 20, "", (0,), (Image.new("RGB", (10, 48)),))
    heights = [draw_sheet("", [row], LAYOUT).height for row in (low, high, wordy)]
    assert heights == sorted(set(heights))


@pytest.mark.parametrize("length", [1, 30, 31, 60, 500, 5000])
def test_long_names_are_cut_in_the_middle_and_fit(length):
    font = ImageFont.load_default(13)
    name = "".join(chr(97 + number % 26) for number in range(length))
    lines = _wrapped(name, font, 200, lines=2)
    assert len(lines) <= 2
    assert max(font.getlength(line) for line in lines) <= 200
    assert lines[0][:1] == name[0]
    assert lines[-1].endswith(name[-1])
    assert "".join(lines) == name or "..." in "".join(lines)


@pytest.mark.parametrize(("count", "total"), [(1, 1), (1, 9), (4, 3), (5, 5), (7, 100)])
def test_numbers_are_spread_evenly_without_repeats(count, total):
    numbers = even_numbers(count, total)
    assert len(set(numbers)) == len(numbers) == min(count, total)
    assert numbers[0] == 0
    assert count == 1 or numbers[-1] == total - 1
    assert np.ptp(np.diff(numbers)) <= 1 if len(numbers) > 1 else True
