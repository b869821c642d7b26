"""IIC on frames and stored flow, from video files to a run and its sheet."""

import json

import numpy as np
import pytest
from PIL import Image

from engine.log import read_log
from launch.cli import main
from tests.launch.runs import pretrain_words
from tests.sample_videos import drifting, write_video

pytest.importorskip("cv2", reason="OpenCV (the extra `flow`) is not installed")


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Shards of the frames and of the flow of eight videos, one of which has no flow in a third folder."""
    folder = tmp_path_factory.mktemp("paired")
    for number in range(8):
        grey = drifting(number - 3, 1, frames=20, height=48, width=56, seed=number)
        path = folder / "videos" / f"class{number % 2}" / f"{number}.mp4"
        write_video(path, content=np.repeat(grey[..., None], 3, axis=3))
    (folder / "some").write_text("\n".join(f"class{number % 2}/{number}" for number in range(7)))
    source = ["build", str(folder / "videos")]
    assert main([*source, str(folder / "rgb"), "--jobs", "1"]) == 0
    assert main([*source, str(folder / "flow"), "--modality", "flow", "--jobs", "1"]) == 0
    some = ["--modality", "flow", "--subset", str(folder / "some"), "--jobs", "1"]
    assert main([*source, str(folder / "fewer"), *some]) == 0
    return folder


def words(roots, run, **settings):
    given = {
        "method.second_view": "flow-u", "data.flow": roots / "flow", "train.global_batch": 4, "train.steps": 4,
        "method.num_negatives": 3,
    }  # fmt: skip
    return list(map(str, pretrain_words(run, roots / "rgb", given | settings)))


def test_a_run_on_frames_and_flow_is_resumed_and_drawn(roots, tmp_path, capsys):
    assert main(words(roots, tmp_path / "run")) == 0
    whole = read_log(tmp_path / "run" / "log.jsonl")
    assert len(whole) == 4
    assert all(np.isfinite(record["losses"]["view2"]) for record in whole)
    assert main(words(roots, tmp_path / "parts", **{"train.stop_at_step": 3})) == 0
    assert main(words(roots, tmp_path / "parts")) == 0
    assert [r["losses"] for r in read_log(tmp_path / "parts" / "log.jsonl")] == [r["losses"] for r in whole]
    sheet = tmp_path / "sheet.png"
    assert main(["inspect", "--run", str(tmp_path / "run"), "--step", "1", "-o", str(sheet)]) == 0
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture)
    lower = pixels[len(pixels) // 2 :]
    # u alone is shown as grey levels around the one of no motion.
    assert ((lower[..., 0] == 128) & (lower[..., 1] == 128) & (lower[..., 2] == 128)).any()
    capsys.readouterr()


def test_other_flow_is_another_run(roots, tmp_path, capsys):
    assert main(words(roots, tmp_path / "run")) == 0
    longer = {"data.flow": roots / "fewer", "train.steps": 6}
    assert main(words(roots, tmp_path / "run", **longer)) == 2
    said = capsys.readouterr().err
    assert "1 videos are in" in said
    assert json.dumps("class1/7")[1:-1] in said


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"data.flow": ""}, "give data.flow the shards"),
        ({"method.second_view": "residual"}, "data.flow is given, but the method sees frames alone"),
    ],
)
def test_flow_and_method_must_agree(roots, tmp_path, capsys, settings, expected):
    assert main(words(roots, tmp_path / "run", **settings)) == 2
    assert expected in capsys.readouterr().err
