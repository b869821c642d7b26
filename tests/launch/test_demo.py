"""The demo's parts: what a stop and a poor result lead to. (`make demo` runs the whole.)"""

import pytest

from data_process.errors import RunError
from launch import demo as demo_module
from launch.cli import main

GOOD = {
    "random network": {"knn": 14.0}, "one frame, random network": {"knn": 12.0}, "one frame, pretrained": {"knn": 13.0},
    "pretrained, step 480": {"knn": 50.0},
}  # fmt: skip


@pytest.fixture
def parts(monkeypatch):
    """Names of the parts that ran, with training and judging replaced; `state` says how training ends."""
    ran, state = [], {"status": 0, "steps": []}

    def pretrain(loaded):
        train = loaded.config.train
        ran.append("pretrain")
        state["steps"].append(train.stop_at_step or train.steps)
        return state["status"]

    monkeypatch.setattr(demo_module, "write_motion_set", lambda *_: ran.append("videos"))
    monkeypatch.setattr(demo_module, "build", lambda *_: ran.append("shards"))
    monkeypatch.setattr(demo_module, "pretrain", pretrain)
    monkeypatch.setattr(
        demo_module, "latest_checkpoint", lambda run: run / f"step-{state.get('reached', state['steps'][-1]):09d}.pt"
    )
    monkeypatch.setattr(demo_module, "judge", lambda run: state.get("rows", GOOD))
    monkeypatch.setattr(demo_module, "keep", lambda run, rows: ran.append("report") or run / "report.html")
    return ran, state


def test_training_stops_in_the_middle_and_goes_on_to_the_end(parts, tmp_path, capsys):
    ran, state = parts
    assert demo_module.demo(tmp_path) == 0
    assert ran == ["videos", "shards", "pretrain", "pretrain", "report"]
    assert state["steps"][0] * 2 == state["steps"][1]
    said = capsys.readouterr().out
    assert "kNN gains 36.0 points" in said
    assert f"report: {tmp_path / 'run' / 'report.html'}" in said


@pytest.mark.parametrize(("status", "reached"), [(130, 10), (0, 10)], ids=["Ctrl-C", "TERM"])
def test_a_signal_in_training_ends_the_demo_there(parts, tmp_path, capsys, status, reached):
    ran, state = parts
    state |= {"status": status, "reached": reached}
    assert demo_module.demo(tmp_path) == status
    assert ran == ["videos", "shards", "pretrain"]
    assert "stopped at step 10" in capsys.readouterr().out


@pytest.mark.parametrize(("row", "knn"), [("pretrained, step 480", 30.0), ("one frame, pretrained", 25.0)])
def test_nothing_learned_and_frames_that_tell_the_class_are_failures(parts, tmp_path, row, knn):
    _, state = parts
    state["rows"] = {**GOOD, row: {"knn": knn}}
    with pytest.raises(RunError, match="the demo expects a kNN gain"):
        demo_module.demo(tmp_path)


def test_the_command_hands_its_options_on(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(demo_module, "demo", lambda out, **options: seen.update(out=out, **options) or 0)
    assert main(["demo", str(tmp_path / "x"), "--seed", "4", "--videos", "9"]) == 0
    assert seen == {"out": tmp_path / "x", "seed": 4, "videos": 9, "test_videos": 160}
