"""Where a run begins: the rule that applies is said, nothing is passed over unasked, nothing is lost."""

import logging
import os
from pathlib import Path

import pytest
import torch

from data_process.errors import InputError
from engine.checkpoint import checkpoint_path, latest_checkpoint, read_checkpoint
from engine.log import read_log
from engine.resume import Resume
from engine.trainer import Outcome
from tests.engine.test_trainer import assert_same_run
from tests.engine.tiny import TinyMethod, run_tiny


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def files(run, name="*"):
    return {path.relative_to(run): path.read_bytes() for path in run.rglob(name) if path.is_file()}


@pytest.fixture
def old(tmp_path):
    """A run that stands at step 12, with checkpoints of steps 6, 9 and 12."""
    run_tiny(tmp_path / "old", stop_at_step=12)
    return tmp_path / "old"


def test_the_order_of_precedence_is_said_with_what_it_gave(old, caplog):
    caplog.set_level(logging.INFO)
    run_tiny(old, stop_at_step=13)
    assert "1. the newest checkpoint in" in caplog.text
    assert "(this one was not); 2. --resume (not given)" in caplog.text
    assert f"Begins with step 12 of {old / 'checkpoints'}" in caplog.text
    caplog.clear()
    run_tiny(old.parent / "other", stop_at_step=1)
    assert "Begins with first weights" in caplog.text


def test_none_is_refused_where_it_would_pass_over_checkpoints_and_nothing_changes(old):
    before = files(old)
    with pytest.raises(InputError, match=r"--resume none, but .* holds 3 checkpoints; .*--start-over"):
        run_tiny(old, resume=Resume("none"))
    assert files(old) == before


def test_none_in_an_empty_folder_begins_there(tmp_path):
    assert run_tiny(tmp_path, resume=Resume("none"), steps=3)[0] is Outcome.FINISHED


def test_starting_over_moves_the_old_run_aside_whole(old):
    before = files(old)
    (old / "slurm").mkdir()
    (old / "slurm" / "log.out").write_text("of the job that runs now")
    run_tiny(old, resume=Resume("none", start_over=True))
    assert files(old / "earlier-001") == before
    assert (old / "slurm" / "log.out").exists()
    run_tiny(old.parent / "whole")
    assert_same_run(old, old.parent / "whole")
    run_tiny(old, resume=Resume("none", start_over=True), stop_at_step=3)
    assert latest_checkpoint(old / "earlier-002").name == "step-000000024.pt"
    assert files(old / "earlier-001") == before


def test_a_kill_while_the_old_run_is_moved_loses_nothing(old, monkeypatch):
    before, moved = files(old), []

    def killed_at_the_third(path, place):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(path)
        os.rename(path, place)

    monkeypatch.setattr("engine.resume.os.replace", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_tiny(old, resume=Resume("none", start_over=True))
    monkeypatch.undo()
    now = files(old)
    assert {path.name for path in now} == {path.name for path in before}
    assert sorted(now.values()) == sorted(before.values())
    assert run_tiny(old)[0] is Outcome.FINISHED  # its checkpoints still stand


def test_a_checkpoint_of_this_run_is_gone_back_to_and_later_ones_are_kept(old):
    log, latest = (old / "log.jsonl").read_bytes(), (old / "checkpoints" / "step-000000012.pt").read_bytes()
    run_tiny(old, resume=Resume(str(checkpoint_path(old / "checkpoints", 6))))
    run_tiny(old.parent / "whole")
    assert_same_run(old, old.parent / "whole")
    aside = files(old / "earlier-001")
    assert {str(path) for path in aside} == {
        "log.jsonl", "checkpoints/step-000000009.pt", "checkpoints/step-000000012.pt",
    }  # fmt: skip
    assert aside[Path("log.jsonl")] == log
    assert aside[Path("checkpoints/step-000000012.pt")] == latest


def test_a_checkpoint_of_another_run_is_begun_with_and_the_other_stays_as_it_is(old):
    before = files(old)
    run_tiny(old.parent / "new", resume=Resume(str(old)))
    run_tiny(old.parent / "whole")
    ours, whole = (read_checkpoint(latest_checkpoint(old.parent / name)) for name in ("new", "whole"))
    assert all(torch.equal(value, whole.method[name]) for name, value in ours.method.items())
    assert next(record["step"] for record in read_log(old.parent / "new" / "log.jsonl")) == 14
    assert files(old) == before


def test_another_runs_checkpoint_does_not_pass_over_ones_own_unasked(old, tmp_path):
    run_tiny(tmp_path / "new", stop_at_step=3)
    with pytest.raises(InputError, match="holds 1 checkpoints of its own"):
        run_tiny(tmp_path / "new", resume=Resume(str(old)))
    run_tiny(tmp_path / "new", resume=Resume(str(old), start_over=True), stop_at_step=14)
    assert latest_checkpoint(tmp_path / "new" / "earlier-001").name == "step-000000003.pt"
    assert latest_checkpoint(tmp_path / "new").name == "step-000000014.pt"


def test_what_does_not_fit_is_refused_before_anything_is_moved(old, tmp_path):
    run_tiny(tmp_path / "new", stop_at_step=3, method=TinyMethod(norm=False))
    before = files(tmp_path)
    for options, told in (({"seed": 2}, r"train\.seed was 1"), ({"method": TinyMethod(norm=False)}, "does not fit")):
        with pytest.raises(InputError, match=told):
            run_tiny(tmp_path / "new", resume=Resume(str(old), start_over=True), **options)
    assert files(tmp_path) == before


def test_a_job_that_is_started_again_goes_on_by_itself(old, tmp_path):
    again = Resume("none", start_over=True, restarted=True)
    run_tiny(old, resume=again)
    assert not list(old.glob("earlier-*"))
    assert read_checkpoint(latest_checkpoint(old)).step == 24
    # Killed before its first checkpoint, it begins once more with what it was told.
    run_tiny(tmp_path / "new", resume=Resume(str(old), restarted=True), steps=26)
    assert [record["step"] for record in read_log(tmp_path / "new" / "log.jsonl")] == [26]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda old: Resume(str(old / "nowhere.pt")), "there is no checkpoint in"),
        (lambda old: Resume(str(old / "log.jsonl")), "is not a complete checkpoint"),
        (lambda old: Resume("auto", start_over=True), "--start-over goes with --resume none"),
        (lambda old: Resume(str(old), start_over=True), "would move .* itself aside"),
    ],
)
def test_what_cannot_be_begun_with_is_named(old, given, told):
    with pytest.raises(InputError, match=told):
        run_tiny(old, resume=given(old))


def _begun(world, folder, source):
    torch.set_num_threads(1)
    _, method = run_tiny(Path(folder), world=world, resume=Resume(source), stop_at_step=14)
    return int(method.calls)


def _refused(world, folder):
    with pytest.raises(InputError) as caught:
        run_tiny(Path(folder), world=world, resume=Resume("none"))
    return str(caught.value)


def test_ranks_begin_alike_and_are_refused_alike(old, two_ranks):
    assert two_ranks.run(_begun, str(old.parent / "new"), str(old)) == [14, 14]
    assert two_ranks.run(_begun, str(old.parent / "again"), str(checkpoint_path(old / "checkpoints", 6))) == [14, 14]
    first, second = two_ranks.run(_refused, str(old))
    assert first == second
    assert "--resume none, but" in first
