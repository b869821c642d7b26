import json
import os
from dataclasses import replace

import pytest
import torch

from engine.log import Heartbeat, IntervalMeter, LogRecord, RunLog, _scalars, finite_or_none, read_log


def record(step):
    speed = {"samples_per_s": 0.5, "clips_per_s": 1.0, "step_s": 2.0, "data_wait_s": 0.5, "data_wait_share": 0.25}
    machine = {"memory_mb": None, "host_memory_mb": 300.0, "flops_per_s": 1e9, "mfu": None}
    return LogRecord(
        step=step,
        epoch=step // 4,
        plan_digest="0f",
        losses={"total": 0.1 * step},
        metrics={"a": None},
        lr=1 / 3,
        grad_norm=2.5,
        skipped=0,
        **speed,
        **machine,
    )


def steps(run):
    return [entry["step"] for entry in read_log(run / "log.jsonl")]


def written(run, numbers, **options):
    log = RunLog(run, tensorboard=False, **options)
    for step in numbers:
        log.write(record(step))
    log.syncing()()
    log.close()


def test_every_record_has_the_same_keys_and_exact_numbers(tmp_path):
    written(tmp_path, (1, 2))
    keys = [
        "step",
        "epoch",
        "plan_digest",
        "losses",
        "metrics",
        "lr",
        "grad_norm",
        "skipped",
        "samples_per_s",
        "clips_per_s",
        "step_s",
        "data_wait_s",
        "data_wait_share",
        "memory_mb",
        "host_memory_mb",
        "flops_per_s",
        "mfu",
        "evals",
    ]
    entries = read_log(tmp_path / "log.jsonl")
    assert [list(entry) for entry in entries] == [keys, keys]
    assert entries[1]["losses"]["total"] == 0.1 * 2
    assert entries[1]["lr"] == 1 / 3


def test_a_resumed_run_holds_each_step_once(tmp_path):
    written(tmp_path, range(1, 8))
    written(tmp_path, range(5, 10), resumed_at=4)
    assert steps(tmp_path) == list(range(1, 10))


def test_half_a_line_of_a_killed_process_is_dropped(tmp_path, caplog):
    written(tmp_path, (1, 2, 3))
    whole = (tmp_path / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text(whole[:-20])
    written(tmp_path, (3,), resumed_at=2)
    assert (tmp_path / "log.jsonl").read_text() == whole
    assert "line 3" in caplog.text


def test_starting_from_the_beginning_empties_an_old_log(tmp_path):
    written(tmp_path, (1, 2))
    written(tmp_path, (1,))
    assert steps(tmp_path) == [1]


def test_numbers_that_json_does_not_know_become_none():
    assert finite_or_none({"a": float("nan"), "b": float("inf"), "c": 1.0}) == {"a": None, "b": None, "c": 1.0}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_the_same_scalars(tmp_path):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    log = RunLog(tmp_path)
    log.write(record(1))
    log.write(record(2))
    log.close()
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert not {"metric/a", "run/mfu"} & set(events.Tags()["scalars"])
    assert {"run/lr", "run/grad_norm", "run/samples_per_s", "run/flops_per_s"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss/total")] == [1, 2]
    assert events.Scalars("loss/total")[1].value == pytest.approx(0.2)


def test_the_heartbeat_is_written_now_and_then_and_always_at_the_end(tmp_path):
    heartbeat = Heartbeat(tmp_path, every_s=3600)
    for step in (1, 2):
        heartbeat.beat(step)
    assert json.loads((tmp_path / "heartbeat.json").read_text())["step"] == 1
    heartbeat.beat(3, state="finished")
    beat = json.loads((tmp_path / "heartbeat.json").read_text())
    assert (beat["step"], beat["state"]) == (3, "finished")


def test_the_meter_divides_time_and_waiting_by_the_steps_since_it_was_read():
    meter = IntervalMeter(wait_s=5.0)
    for _ in range(4):
        meter.count()
    speed = meter.read(7.0, clips_per_step=8)
    assert speed["data_wait_s"] == 0.5
    assert speed["clips_per_s"] == pytest.approx(8 / speed["step_s"])
    meter.count()
    assert meter.read(7.0, clips_per_step=8)["data_wait_s"] == 0.0


def test_memory_of_the_cpu_is_not_claimed():
    from engine.log import allocated_mb

    assert allocated_mb(torch.device("cpu")) is None


def test_a_log_is_made_durable_after_it_was_closed_too(tmp_path, monkeypatch):
    log, synced = RunLog(tmp_path, tensorboard=False), []
    log.write(record(1))
    sync = log.syncing()
    log.close()
    monkeypatch.setattr("engine.log.os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    sync()
    assert synced == [(tmp_path / "log.jsonl").stat().st_ino]


def test_what_is_measured_late_comes_into_the_record_of_its_step(tmp_path):
    log = RunLog(tmp_path, tensorboard=False)
    for step in (1, 2, 3):
        log.write(record(step))
    log.add_evals(2, {"knn_accuracy": 0.5})
    log.write(record(4))
    log.close()
    entries = read_log(tmp_path / "log.jsonl")
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    assert [entry["evals"] for entry in entries] == [{}, {"knn_accuracy": 0.5}, {}, {}]


def test_boards_get_what_was_measured_under_its_own_name():
    scalars = _scalars(replace(record(1), evals={"val_accuracy": 0.5, "val_loss": None}))
    assert scalars["eval/val_accuracy"] == 0.5
    assert "eval/val_loss" not in scalars
    assert not any("evals" in name for name in scalars)
