import random
import shutil
import signal

import pytest
import torch

from engine.checkpoint import latest_checkpoint, read_checkpoint
from launch import cli
from tests.launch.runs import (
    TORCHRUN,
    assert_same_run,
    complete,
    digests,
    exact_log,
    finish,
    heartbeat,
    pretrain_words,
    start,
    stop_at,
)

STEPS = 40


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["host", "dali"])
def test_a_run_killed_at_random_steps_ends_as_if_unbroken(backend, shards, tmp_path):
    if backend == "dali":
        pytest.importorskip("nvidia.dali")
    settings = {"pipeline.backend": backend, "train.steps": STEPS, "train.save_every": 4}
    complete(pretrain_words(tmp_path / "whole", shards, settings))
    words = pretrain_words(tmp_path / "cut", shards, settings)
    killed_at = stop_at(start(words), tmp_path / "cut", random.Random(backend).randint(5, STEPS - 15))
    assert killed_at < STEPS
    said = complete(words)
    assert "going on from step" in said
    assert_same_run(tmp_path / "whole", tmp_path / "cut", steps=STEPS)
    assert any("banks" in name for name in read_checkpoint(latest_checkpoint(tmp_path / "cut")).method)


@pytest.mark.slow
def test_two_ranks_consume_the_clips_that_one_process_does(shards, tmp_path):
    settings = {"train.steps": 12}
    complete(pretrain_words(tmp_path / "one", shards, settings))
    complete(pretrain_words(tmp_path / "two", shards, settings), under=TORCHRUN)
    assert read_checkpoint(latest_checkpoint(tmp_path / "two")).world_size == 2
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(set(digests(tmp_path / "one"))) == 12  # a digest that never changed would prove nothing


@pytest.mark.slow
def test_ranks_read_a_staged_copy_and_go_on_when_its_source_is_gone(shards, tmp_path):
    source = shutil.copytree(shards, tmp_path / "source")
    complete(pretrain_words(tmp_path / "whole", shards, {"train.steps": 8}), under=TORCHRUN)
    staged = {"train.steps": 8, "data.stage": tmp_path / "local"}
    words = pretrain_words(tmp_path / "run", source, staged)
    complete([*words, "--train.stop_at_step=4"], under=TORCHRUN)
    (copy,) = (tmp_path / "local").iterdir()
    assert {path.name for path in source.iterdir()} <= {path.name for path in copy.iterdir()}
    shutil.rmtree(source)
    complete(words, under=TORCHRUN)
    assert_same_run(tmp_path / "whole", tmp_path / "run", steps=8)


@pytest.mark.slow
def test_torchrun_told_to_stop_saves_and_one_process_may_go_on(shards, tmp_path):
    words = pretrain_words(tmp_path, shards, {"train.steps": 300, "train.save_every": 1000})
    stop_at(start(words, under=TORCHRUN), tmp_path, 3, signal.SIGTERM)
    stopped = heartbeat(tmp_path)
    assert stopped["state"] == "terminated"
    assert read_checkpoint(latest_checkpoint(tmp_path)).step == stopped["step"] < 300
    said = complete([*words, f"--train.stop_at_step={stopped['step'] + 2}"])
    assert "2 ranks made the checkpoint, 1 go on" in said
    assert read_checkpoint(latest_checkpoint(tmp_path)).step == stopped["step"] + 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "state"),
    [(signal.SIGTERM, 0, "terminated"), (signal.SIGUSR2, 0, "requeue"), (signal.SIGINT, 130, "interrupted")],
    ids=["TERM", "USR2", "Ctrl-C"],
)
def test_a_signal_ends_a_single_process_after_its_step_with_the_state_saved(shards, tmp_path, number, status, state):
    process = start(pretrain_words(tmp_path, shards, {"train.steps": 2000, "train.save_every": 5000}))
    stop_at(process, tmp_path, 3, number)
    assert process.returncode == status
    assert heartbeat(tmp_path)["state"] == state
    assert read_checkpoint(latest_checkpoint(tmp_path)).step == heartbeat(tmp_path)["step"] < 2000


@pytest.mark.slow
def test_ranks_that_do_not_divide_the_batch_are_refused_by_every_rank_without_waiting(shards, tmp_path):
    words = pretrain_words(tmp_path, shards, {"train.global_batch": 7})
    status, said = finish(start(words, under=TORCHRUN))
    assert status != 0
    assert "train.global_batch (7) must be divisible by the 2 ranks; 8 is the next that is" in said
    assert not (tmp_path / "config.yaml").exists()


def run_here(run, shards, settings=()):
    """In this process: the exit status."""
    return cli.main(pretrain_words(run, shards, {"train.steps": 3, **dict(settings)}))


def test_a_finished_run_that_is_started_again_returns_at_once(shards, tmp_path, capsys):
    assert run_here(tmp_path, shards) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert run_here(tmp_path, shards) == 0
    assert "step 3 of 3: nothing is left to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_a_run_that_was_made_longer_goes_on_from_its_end(shards, tmp_path):
    assert run_here(tmp_path, shards) == 0
    first = exact_log(tmp_path)
    assert run_here(tmp_path, shards, {"train.steps": 5}) == 0
    assert exact_log(tmp_path)[:3] == first
    assert exact_log(tmp_path)[-1]["step"] == 5
    assert "steps: 5" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "named"),
    [({"train.seed": 1}, "seed"), ({"train.global_batch": 4}, "global_batch"), ({"data.split": "test"}, "data.root")],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_change_of_what_decides_the_samples_is_refused_and_nothing_is_lost(shards, tmp_path, capsys, change, named):
    assert run_here(tmp_path, shards) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert run_here(tmp_path, shards, {"train.steps": 6, **change}) == 2
    said = capsys.readouterr().err
    assert "cannot go on" in said
    assert named in said
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_another_plan_version_is_refused(shards, tmp_path, capsys):
    assert run_here(tmp_path, shards) == 0
    path = latest_checkpoint(tmp_path)
    content = torch.load(path, weights_only=True)
    content["plan_version"] += 1
    torch.save(content, path)
    assert run_here(tmp_path, shards, {"train.steps": 6}) == 2
    assert "plan version" in capsys.readouterr().err
    assert exact_log(tmp_path)[-1]["step"] == 3


def test_a_method_that_does_not_fit_the_checkpoint_is_refused_and_config_yaml_stays(shards, tmp_path, capsys):
    assert run_here(tmp_path, shards) == 0
    before = (tmp_path / "config.yaml").read_text()
    assert run_here(tmp_path, shards, {"train.steps": 6, "method.backbone.width": 3}) == 2
    assert "does not fit the method" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"data.root": "nowhere"}, "nowhere"),
        ({"data.split": "val"}, "its splits are"),
        ({"train.global_batch": 1000}, "train.global_batch (1000)"),
        ({"train.epochs": 2}, "either train.epochs or train.steps"),
        ({"method.backbone.width": 0}, "width 0"),
        ({"optim.lr": "fast"}, "optim.lr: expected float, got fast"),
        ({"method.backbone.widht": 3}, "did you mean method.backbone.width?"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_input_is_one_paragraph_and_status_2_and_leaves_no_run_folder(shards, tmp_path, capsys, settings, told):
    assert run_here(tmp_path / "run", shards, settings) == 2
    said = capsys.readouterr().err.strip()
    assert said.splitlines()[-1].startswith("intravid: error: ")
    assert told in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_damaged_shards_fail_the_run_with_status_1(shards, tmp_path, capsys):
    copy = tmp_path / "shards"
    shutil.copytree(shards, copy)
    for shard in copy.glob("*.lmdb"):
        content = bytearray(shard.read_bytes())
        for place in range(len(content) // 2, len(content), 97):
            content[place] ^= 0xFF
        shard.write_bytes(content)
    assert run_here(tmp_path / "run", copy) == 1
    assert "intravid verify" in capsys.readouterr().err


def test_a_deadline_saves_and_the_next_start_goes_on(shards, tmp_path):
    words = pretrain_words(tmp_path, shards, {"train.steps": 4})
    assert cli.main([*words, "--stop-after", "0.0001"]) == 0
    assert heartbeat(tmp_path)["state"] == "requeue"
    assert heartbeat(tmp_path)["step"] == 1
    assert cli.main(words) == 0
    assert heartbeat(tmp_path) | {"state": "finished", "step": 4} == heartbeat(tmp_path)


def test_a_profile_names_what_limits_the_run_and_leaves_it_to_be_gone_on_with(shards, tmp_path, capsys):
    words = pretrain_words(tmp_path, shards, {"train.steps": 20})
    assert cli.main([*words, "--profile", "--profile-steps", "2"]) == 0
    assert "limits this run" in capsys.readouterr().err
    assert (tmp_path / "profile" / "trace.json.gz").is_file()
    assert heartbeat(tmp_path)["step"] == 15
    assert cli.main(words) == 0
    assert heartbeat(tmp_path)["step"] == 20
    assert cli.main([*words, "--profile"]) == 0  # nothing is left to do, and nothing to time


def test_the_word_none_is_refused_over_a_run_and_starting_over_keeps_it(shards, tmp_path, capsys, monkeypatch):
    words = pretrain_words(tmp_path, shards, {"train.steps": 2})
    assert cli.main(words) == 0
    assert cli.main([*words, "--resume", "none"]) == 2
    assert "--start-over moves them" in capsys.readouterr().err
    assert cli.main([*words, "--resume", "none", "--start-over"]) == 0
    assert "where to begin, the first that applies" in capsys.readouterr().err
    assert latest_checkpoint(tmp_path / "earlier-001").name == latest_checkpoint(tmp_path).name
    assert (tmp_path / "earlier-001" / "config.yaml").exists()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")  # a requeued job has the same words
    assert cli.main([*words, "--resume", "none", "--start-over"]) == 0
    assert "nothing is left to do" in capsys.readouterr().err
    assert not (tmp_path / "earlier-002").exists()


def test_a_run_begins_with_the_checkpoint_of_another_that_saw_the_same_clips(shards, tmp_path, capsys):
    assert run_here(tmp_path / "one", shards) == 0
    words = pretrain_words(tmp_path / "two", shards, {"train.steps": 5, "optim.lr": 0.001})
    assert cli.main([*words, "--resume", str(tmp_path / "one")]) == 0
    assert [record["step"] for record in exact_log(tmp_path / "two")] == [4, 5]
    assert (
        cli.main([*words, "--train.seed=9", "--run_dir", str(tmp_path / "3"), "--resume", str(tmp_path / "one")]) == 2
    )
    assert "train.seed was" in capsys.readouterr().err
