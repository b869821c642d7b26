import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from data_process.errors import InputError
from engine import boards
from engine.boards import check_wandb, open_boards
from engine.log import read_log
from tests.engine.tiny import run_tiny


class Service(ModuleType):
    """Stands in for the package: notes what it is asked for."""

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)
        self.started, self.points, self.metrics, self.finished = [], [], [], 0

    def init(self, **settings):
        self.started.append(settings)
        return self

    def define_metric(self, name, step_metric=None):
        self.metrics.append((name, step_metric))

    def log(self, values):
        self.points.append(values)

    def finish(self):
        self.finished += 1


@pytest.fixture
def service(monkeypatch):
    made = Service()
    monkeypatch.setitem(sys.modules, "wandb", made)
    return made


def test_a_run_sends_what_its_log_holds_and_finishes(tmp_path, service):
    (tmp_path / "config.yaml").write_text("optim:\n  lr: 0.5\n")
    run_tiny(tmp_path, steps=6, wandb="videos")
    records = read_log(tmp_path / "log.jsonl")
    assert [point["step"] for point in service.points] == [record["step"] for record in records] == [2, 4, 6]
    for point, record in zip(service.points, records, strict=True):
        assert point["loss/total"] == record["losses"]["total"]
        assert point["metric/spread"] == record["metrics"]["spread"]
        assert point["run/lr"] == record["lr"]
    (started,) = service.started
    assert (started["project"], started["name"], started["config"]) == ("videos", tmp_path.name, {"optim": {"lr": 0.5}})
    assert ("*", "step") in service.metrics
    assert service.finished == 1


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path, service):
    run_tiny(tmp_path / "one", steps=6, stop_at_step=4, wandb="videos")
    run_tiny(tmp_path / "one", steps=6, wandb="videos")
    run_tiny(tmp_path / "other", steps=6, wandb="videos")
    first, again, other = (settings["id"] for settings in service.started)
    assert first == again != other
    assert all(settings["resume"] == "allow" for settings in service.started)
    assert [point["step"] for point in service.points[:3]] == [2, 4, 6]


def test_nothing_is_sent_unless_a_project_is_named(tmp_path, service):
    run_tiny(tmp_path, steps=4)
    assert service.started == []
    assert open_boards(tmp_path, resumed_at=0, tensorboard=False) == []


def test_a_missing_package_is_told_before_a_step_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(boards, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"train\.wandb is 'videos'.*pip install"):
        run_tiny(tmp_path, steps=4, wandb="videos")
    assert not (tmp_path / "log.jsonl").exists()
    check_wandb("")
