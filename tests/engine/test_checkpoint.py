import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_process.errors import InputError, RunError
from engine import atomic
from engine.checkpoint import (
    RunFacts,
    RunState,
    backbone_weights,
    checkpoint_path,
    latest_checkpoint,
    read_checkpoint,
    refuse_changed,
    resume_state,
    save_checkpoint,
)
from engine.world import World

ROOT = Path(__file__).parents[2]
FACTS = RunFacts(seed=3, global_batch=8, shard_digest="abc", config={"optim": {"lr": 0.1}, "root": Path("x")})


def state_at(step, facts=FACTS):
    method = {"backbone.conv.weight": torch.full((4,), float(step)), "bank": torch.arange(6.0)}
    optimizer = {"kind": "SGD", "state": {0: {"momentum_buffer": torch.ones(4)}}, "param_groups": [{"betas": (0.9, 1)}]}
    return RunState(facts, step, 2, method, optimizer, {"scale": 2.0})


def test_a_state_comes_back_as_it_was_written(tmp_path):
    path = save_checkpoint(tmp_path, state_at(12))
    assert path.name == "step-000000012.pt"
    back = read_checkpoint(path)
    assert back.facts == replace(FACTS, config={"optim": {"lr": 0.1}, "root": "x"})
    assert (back.step, back.world_size, back.scaler) == (12, 2, {"scale": 2.0})
    assert torch.equal(back.method["bank"], torch.arange(6.0))
    assert back.optimizer["param_groups"] == [{"betas": (0.9, 1)}]
    assert list(backbone_weights(back)) == ["conv.weight"]


def test_the_newest_stay_and_every_nth(tmp_path):
    for step in range(1, 11):
        save_checkpoint(tmp_path, state_at(step), keep=2, keep_every=4)
    assert sorted(int(path.stem[5:]) for path in tmp_path.glob("step-*.pt")) == [4, 8, 9, 10]
    assert (tmp_path / "latest").read_text() == "step-000000010.pt\n"


def test_a_run_folder_a_checkpoint_folder_or_a_file_all_mean_the_newest(tmp_path):
    folder = tmp_path / "checkpoints"
    for step in (1, 2):
        path = save_checkpoint(folder, state_at(step))
    assert latest_checkpoint(tmp_path) == latest_checkpoint(folder) == latest_checkpoint(path) == path
    (folder / "latest").unlink()
    assert latest_checkpoint(tmp_path) == path
    with pytest.raises(InputError, match="no checkpoint in"):
        latest_checkpoint(tmp_path / "elsewhere")


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit_of_a_weight(path):
    content = bytearray(path.read_bytes())
    place = content.index(torch.arange(6.0).numpy().tobytes()) + 9
    content[place] ^= 1
    path.write_bytes(content)


def of_process(what):
    path = Path("/proc/self") / what
    if not path.exists():
        pytest.skip("the system does not tell what a process has in memory")
    return path.read_text()


def own_bytes():
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", of_process("status"))[1])


def test_a_bank_is_read_from_the_file_as_it_is_used_and_nothing_else_stays_in_the_file(tmp_path):
    bank = torch.arange(2**24, dtype=torch.float32)
    optimizer = {"state": {0: {"momentum_buffer": bank[: 2**20].clone()}}}
    path = save_checkpoint(tmp_path, RunState(FACTS, 1, 2, {"bank": bank}, optimizer))
    before = own_bytes()
    state = read_checkpoint(path)
    part = state.method["bank"][1::64].clone()
    assert own_bytes() - before < bank.nbytes / 4
    assert torch.equal(part, bank[1::64])
    assert str(path) in of_process("maps")
    kept = state.optimizer["state"][0]["momentum_buffer"]
    del state
    assert str(path) not in of_process("maps")
    assert torch.equal(kept, bank[: 2**20])


@pytest.mark.parametrize("damage", [cut, flip_a_bit_of_a_weight])
def test_a_damaged_newest_file_is_set_aside_loudly_and_the_one_before_taken(tmp_path, caplog, damage):
    for step in (10, 20):
        path = save_checkpoint(tmp_path, state_at(step))
    damage(path)
    state = resume_state(tmp_path, World())
    assert state is not None
    assert state.step == 10
    assert "step-000000020.pt is damaged" in caplog.text
    assert path.with_name("step-000000020.pt.damaged").exists()
    # The next save must not count the damaged file as the newest and delete what the run stands on.
    save_checkpoint(tmp_path, state_at(15), keep=1)
    assert latest_checkpoint(tmp_path).name == "step-000000015.pt"


def test_starting_over_because_all_are_damaged_is_refused(tmp_path):
    cut(save_checkpoint(tmp_path, state_at(10)))
    with pytest.raises(InputError, match="none of the 1 checkpoints"):
        resume_state(tmp_path, World())


def test_where_nothing_was_saved_there_is_nothing_to_resume(tmp_path):
    assert resume_state(tmp_path / "checkpoints", World()) is None


def test_a_foreign_file_is_named_as_such(tmp_path):
    torch.save({"model": {"w": torch.ones(1)}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="intravid import"):
        read_checkpoint(tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match="not a complete checkpoint"):
        read_checkpoint(tmp_path / "text.pt")
    with pytest.raises(InputError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "missing.pt")


def test_another_format_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.checkpoint.FORMAT_VERSION", 99)
    path = save_checkpoint(tmp_path, state_at(1))
    monkeypatch.undo()
    with pytest.raises(InputError, match="format 99, this intravid reads 1"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"seed": 4}, "train.seed was 3, is now 4"),
        ({"global_batch": 16}, "train.global_batch was 8, is now 16"),
        ({"shard_digest": "def"}, "data.root.*was abc, is now def"),
        ({"plan_version": 0}, "plan version of the program was 2, is now 0"),
    ],
)
def test_resuming_with_other_samples_is_refused_with_both_values(changed, text):
    refuse_changed(FACTS, FACTS, source=Path("run"))
    with pytest.raises(InputError, match=text):
        refuse_changed(FACTS, replace(FACTS, **changed), source=Path("run"))


def test_all_differences_are_named_at_once():
    with pytest.raises(InputError, match=r"train\.seed.*train\.global_batch.*Set it back"):
        refuse_changed(FACTS, replace(FACTS, seed=1, global_batch=2), source=Path("run"))


def test_other_settings_may_change():
    refuse_changed(FACTS, replace(FACTS, config={"optim": {"lr": 9}}), source=Path("run"))


def test_a_full_disk_fails_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    first = save_checkpoint(tmp_path, state_at(1))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(RunError, match=re.escape("step-000000002.pt: No space left on device")):
        save_checkpoint(tmp_path, state_at(2), keep=1)
    monkeypatch.undo()
    assert latest_checkpoint(tmp_path) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", first.name]


def _assert_kills_in_saves_are_survived(folder, kills, *words):
    command = [sys.executable, "-m", "tests.engine.killed_saver", str(folder), str(kills), *words]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=250).stdout
    rows = [line.split() for line in output.splitlines()]
    assert len(rows) == kills
    assert any(int(begun) for _, _, begun, _, _ in rows), "no kill has met a save"
    assert all(whole == "True" and damaged == "0" and left == "0" for _, whole, _, damaged, left in rows)
    steps = [int(row[0]) for row in rows]
    assert steps == sorted(steps)
    assert steps[-1] > 0


@pytest.mark.parametrize("how", [[], ["background"]], ids=["in the loop", "in the background"])
def test_sigkill_in_the_middle_of_saves_never_leaves_a_broken_checkpoint(tmp_path, how):
    _assert_kills_in_saves_are_survived(tmp_path, 8, *how)


@pytest.mark.slow
def test_a_hundred_kills_in_background_saves_leave_a_whole_checkpoint_each_time(tmp_path):
    _assert_kills_in_saves_are_survived(tmp_path, 100, "background")


def _resumed_step(world, folder):
    state = resume_state(Path(folder), world)
    return state.step if state else None


def _resume_error(world, folder):
    with pytest.raises(InputError) as caught:
        resume_state(Path(folder), world)
    return str(caught.value)


def test_both_ranks_fall_back_to_the_same_file(tmp_path, two_ranks):
    assert two_ranks.run(_resumed_step, str(tmp_path)) == [None, None]
    for step in (1, 2):
        save_checkpoint(tmp_path, state_at(step))
    cut(checkpoint_path(tmp_path, 2))
    assert two_ranks.run(_resumed_step, str(tmp_path)) == [1, 1]
    cut(checkpoint_path(tmp_path, 1))
    first, second = two_ranks.run(_resume_error, str(tmp_path))
    assert first == second
    assert "none of the 1" in first
