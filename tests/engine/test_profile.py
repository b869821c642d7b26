import gzip
import json
from pathlib import Path

import pytest
import torch

from data_process.errors import InputError, RunError
from engine import profile as profile_module
from engine.beats import Stage
from engine.profile import TRACED, WARM_UP, Profile, StageClock, verdict
from engine.stop import Stop, StopFlag
from engine.trainer import Outcome
from engine.world import World
from tests.engine.test_trainer import assert_same_run
from tests.engine.tiny import TinyLoader, TinyMethod, run_tiny

STEP = (Stage.FORWARD, Stage.BACKWARD, Stage.OPTIMIZER, Stage.AGREE, Stage.LOG, Stage.SAVE)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class Told:
    def __init__(self):
        self.stages = []

    def at(self, stage, step=None):
        self.stages.append((stage, step))


class Hands:
    """A clock that is moved by hand."""

    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def timed(steps, costs, *, warm_cost=100.0):
    """The clock of a loop whose stages cost what is said, in seconds, and a lot while it warms up and is traced."""
    told, hands = Told(), Hands()
    clock = StageClock(told, Profile(steps), now=hands)
    for step in range(WARM_UP + steps + TRACED):
        if step:
            clock.at(Stage.DATA)
            hands.time += costs[Stage.DATA] if WARM_UP <= step < WARM_UP + steps else warm_cost
        for stage in STEP:
            clock.at(stage, step + 1 if stage is Stage.AGREE else None)
            hands.time += costs[stage] if WARM_UP <= step < WARM_UP + steps else warm_cost
    return clock, told


def test_each_stage_is_counted_over_the_timed_steps_alone():
    costs = {stage: 2.0 ** (number - 5) for number, stage in enumerate((Stage.DATA, *STEP))}
    clock, told = timed(7, costs)
    expected = {name: 7 * costs[stage] for name, stage in (("data wait", Stage.DATA), ("forward", Stage.FORWARD))}
    expected |= {"backward": 7 * costs[Stage.BACKWARD], "optimizer": 7 * costs[Stage.OPTIMIZER]}
    expected |= {"logging": 7 * sum(costs[stage] for stage in (Stage.AGREE, Stage.LOG, Stage.SAVE)), "evaluation": 0.0}
    assert clock.seconds == expected
    # The watchdog hears of everything, as without a clock.
    assert len(told.stages) == 7 * (WARM_UP + 7 + TRACED) - 1
    assert [step for stage, step in told.stages if stage is Stage.AGREE] == list(range(1, WARM_UP + 7 + TRACED + 1))


@pytest.mark.parametrize("slow", [Stage.DATA, Stage.FORWARD, Stage.BACKWARD, Stage.OPTIMIZER, Stage.SAVE])
def test_the_verdict_names_the_slowest_stage_and_its_share(slow):
    costs = dict.fromkeys((Stage.DATA, *STEP), 1.0) | {slow: 13.0}
    clock, _ = timed(4, costs)
    text = verdict([{name: total / 4 for name, total in clock.seconds.items()}])
    name = profile_module._NAMES[slow]
    share = (15 if name == "logging" else 13) / 19
    assert text.startswith(f"{name} limits this run: {share:.0%} of a step of 19000.0 ms")
    assert "may help" in text


def test_of_several_ranks_the_one_that_waits_most_for_data_is_named():
    stages = {"forward": 0.2, "backward": 0.3, "optimizer": 0.0, "logging": 0.0}
    text = verdict([{"data wait": wait, **stages} for wait in (0.0, 0.5, 0.1)])
    assert "means of 3 ranks" in text
    assert "rank 1 waits most for data, 50.0%" in text


def test_a_profile_ends_with_a_trace_and_a_verdict_and_the_run_goes_on_as_if_without(tmp_path, caplog):
    profile = Profile(steps=4)
    with caplog.at_level("INFO"):
        outcome, _ = run_tiny(tmp_path / "cut", profile=profile)
    assert outcome is Outcome.PAUSED
    assert "limits this run" in caplog.text
    assert json.loads((tmp_path / "cut" / "heartbeat.json").read_text())["step"] == profile.num_steps == 17
    told = json.loads((tmp_path / "cut" / "profile" / "stages.json").read_text())
    (of_rank,) = told["seconds_per_step"]
    assert set(of_rank) == {"data wait", "forward", "backward", "optimizer", "evaluation", "logging"}
    assert all(value >= 0 for value in of_rank.values())
    assert sum(of_rank.values()) > 0
    with gzip.open(tmp_path / "cut" / "profile" / "trace.json.gz", "rt") as file:
        events = json.load(file)["traceEvents"]
    marked = [one["name"] for one in events if str(one.get("name", "")).startswith("stage: ")]
    for name in ("forward", "backward", "optimizer"):
        assert marked.count(f"stage: {name}") == TRACED, name
    assert "aten::conv3d" in {one.get("name") for one in events}
    run_tiny(tmp_path / "cut")
    run_tiny(tmp_path / "whole")
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_a_run_with_too_few_steps_left_is_refused_before_it_begins(tmp_path):
    with pytest.raises(InputError, match=r"takes 33 steps .* and 24 of the run are left"):
        run_tiny(tmp_path, profile=Profile())
    assert not (tmp_path / "log.jsonl").exists()
    with pytest.raises(InputError, match="--profile-steps 0"):
        Profile(0)


def test_a_stop_in_the_middle_leaves_no_verdict(tmp_path, monkeypatch, caplog):
    flag = StopFlag(World())
    answers = iter([Stop.NONE] * (WARM_UP + 2) + [Stop.INTERRUPT])
    monkeypatch.setattr(flag, "agreed", lambda: next(answers))
    with caplog.at_level("INFO"):
        outcome, _ = run_tiny(tmp_path, stop=flag, profile=Profile(4))
    assert outcome is Outcome.INTERRUPTED
    assert not (tmp_path / "profile").exists()
    assert "limits this run" not in caplog.text


def test_a_failure_while_tracing_is_told_as_it_is(tmp_path):
    with pytest.raises(RunError, match="the loader ended after step 15"):
        run_tiny(tmp_path, loader=TinyLoader(ends_after=15), method=TinyMethod(), profile=Profile(4))
    assert not (tmp_path / "profile").exists()
    outcome, _ = run_tiny(tmp_path / "again", profile=Profile(4))  # the profiler was left in order
    assert outcome is Outcome.PAUSED


def _profiled(world, folder):
    torch.set_num_threads(1)
    outcome, _ = run_tiny(Path(folder), world=world, profile=Profile(2))
    return outcome


def test_ranks_are_told_apart_and_only_the_first_traces(tmp_path, two_ranks):
    assert two_ranks.run(_profiled, str(tmp_path)) == [Outcome.PAUSED] * 2
    assert len(json.loads((tmp_path / "profile" / "stages.json").read_text())["seconds_per_step"]) == 2
    assert sorted(path.name for path in (tmp_path / "profile").iterdir()) == ["stages.json", "trace.json.gz"]
