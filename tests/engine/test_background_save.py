"""Checkpoints that are written beside training: the state of their step, whole, and no error unheard."""

import threading
from dataclasses import replace

import pytest
import torch

from data_process.errors import RunError
from engine import background_save
from engine.background_save import BackgroundSaver
from engine.checkpoint import RunFacts, RunState, checkpoint_path, read_checkpoint, save_checkpoint


def state(step, value):
    weight = torch.full((4, 3, 2, 5, 5), float(value)).contiguous(memory_format=torch.channels_last_3d)
    optimizer = {"groups": [{"lr": 0.1}], "state": {"weight": {"momentum": weight * 2, "step": torch.tensor(step)}}}
    return RunState(RunFacts(1, 2, "digest"), step, 1, {"weight": weight, "count": torch.tensor(step)}, optimizer)


@pytest.fixture
def saver(tmp_path):
    one = BackgroundSaver(tmp_path / "checkpoints", keep=2, keep_every=0)
    yield one
    one.close()


def test_a_state_is_written_as_it_was_when_it_was_saved(saver, tmp_path, monkeypatch):
    begin = threading.Event()

    def slow(*args, **settings):
        assert begin.wait(10)
        return save_checkpoint(*args, **settings)

    monkeypatch.setattr(background_save, "save_checkpoint", slow)
    training = state(1, 1.0)
    saver.save(training)
    training.method["weight"].fill_(99.0)
    training.optimizer["state"]["weight"]["momentum"].zero_()
    begin.set()
    saver.wait()
    written = read_checkpoint(checkpoint_path(tmp_path / "checkpoints", 1))
    assert (written.method["weight"] == 1.0).all()
    assert written.method["weight"].is_contiguous(memory_format=torch.channels_last_3d)
    assert (written.optimizer["state"]["weight"]["momentum"] == 2.0).all()
    assert written.optimizer["groups"] == [{"lr": 0.1}]


def test_one_after_the_other_and_only_the_newest_stay(saver, tmp_path):
    for step in range(1, 6):
        saver.save(state(step, step))
    saver.wait()
    found = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*.pt"))
    assert found == ["step-000000004.pt", "step-000000005.pt"]
    for step in (4, 5):
        written = read_checkpoint(checkpoint_path(tmp_path / "checkpoints", step))
        assert (written.method["weight"] == step).all()
        assert int(written.method["count"]) == step


def test_the_memory_of_the_copy_is_used_again_unless_its_shape_changed(saver):
    saver.save(state(1, 1.0))
    saver.wait()
    place = saver._copies["method/weight"].data_ptr()
    saver.save(state(2, 2.0))
    saver.wait()
    assert saver._copies["method/weight"].data_ptr() == place
    other = state(3, 3.0)
    saver.save(replace(other, method={"weight": torch.zeros(7)}))
    saver.wait()
    assert saver._copies["method/weight"].shape == (7,)


def test_what_was_gathered_is_written_with_the_method_and_takes_no_second_copy(saver, tmp_path):
    saver.save(replace(state(1, 1.0), gathered={"bank": torch.arange(6.0)}))
    saver.wait()
    assert saver._copies.keys() >= {"method/weight", "method/count"}
    assert not any("bank" in name for name in saver._copies)
    written = read_checkpoint(checkpoint_path(tmp_path / "checkpoints", 1))
    assert torch.equal(written.method["bank"], torch.arange(6.0))
    assert written.method.keys() == {"weight", "count", "bank"}
    assert written.gathered == {}


def test_an_error_of_writing_comes_out_at_the_next_chance(saver, tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    saver.save(state(1, 1.0))
    with pytest.raises((RunError, OSError), match="checkpoints"):
        saver.save(state(2, 2.0))


def test_closing_waits_and_leaves_no_thread(tmp_path):
    before = set(threading.enumerate())
    one = BackgroundSaver(tmp_path / "checkpoints", keep=1, keep_every=0)
    one.save(state(1, 1.0))
    one.close()
    assert checkpoint_path(tmp_path / "checkpoints", 1).is_file()
    assert set(threading.enumerate()) <= before


def test_what_has_to_come_first_is_done_by_the_thread_before_it_writes(saver, tmp_path):
    seen = []

    def first():
        seen.append((threading.current_thread().name, (tmp_path / "checkpoints").exists()))

    saver.save(state(1, 1.0), first=first)
    saver.wait()
    ((name, written),) = seen
    assert name.startswith("intravid-save")
    assert not written


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_state_on_a_gpu_is_written_as_it_was(saver, tmp_path):
    weight = torch.ones(2**24, device="cuda")
    torch.cuda._sleep(10**8)
    weight += 1.0
    saver.save(RunState(RunFacts(1, 2, "digest"), 1, 1, {"weight": weight}))
    weight.zero_()
    saver.wait()
    assert (read_checkpoint(checkpoint_path(tmp_path / "checkpoints", 1)).method["weight"] == 2.0).all()
