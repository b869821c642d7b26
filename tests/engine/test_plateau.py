"""A rate that falls on a plateau, against torch's own scheduler."""

import math

import numpy as np
import pytest
import torch

from data_process.errors import InputError
from engine.plateau import Plateau, plateau_rate
from engine.schedule import ScheduleConfig


def rates_of_torch(values, *, mode, base_lr, **settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base_lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, **settings)
    rates = []
    for value in values:
        scheduler.step(value)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("measure", "mode"), [("eval/val_loss", "min"), ("eval/val_accuracy", "max")])
@pytest.mark.parametrize(("patience", "factor", "floor"), [(0, 0.5, 0.0), (3, 0.1, 1e-5), (10, 0.1, 0.0)])
def test_rates_are_those_of_torch(seed, measure, mode, patience, factor, floor):
    rng = np.random.default_rng(seed)
    values = (np.abs(rng.normal(1.0, 0.3, 120)) + 2.0 * np.exp(-np.arange(120) / 20)).tolist()
    values[40] = math.nan
    config = ScheduleConfig("plateau", measure=measure, patience=patience, factor=factor, final_lr=floor)
    expected = rates_of_torch(
        values, mode=mode, base_lr=0.025, patience=patience, factor=factor, min_lr=floor, threshold=1e-4
    )
    assert [plateau_rate(values[: n + 1], config, base_lr=0.025) for n in range(120)] == expected
    assert len(set(expected)) > 2


def test_evaluations_count_one_by_one_and_losses_as_means_of_epochs():
    judged = Plateau(ScheduleConfig("plateau", measure="eval/val_loss"), 0.1)
    judged.observe({"loss/total": 3.0}, epoch_ends=True)
    judged.observe({"loss/total": 3.0, "eval/val_loss": 2.0}, epoch_ends=False)
    assert judged.state == {"measure": "eval/val_loss", "values": [2.0], "open": []}
    trained = Plateau(ScheduleConfig("plateau", measure="loss/total"), 0.1)
    for number, loss in enumerate((4.0, 2.0, 1.0, 1.0, 7.0), start=1):
        trained.observe({"loss/total": loss}, epoch_ends=number % 2 == 0)
    assert trained.state == {"measure": "loss/total", "values": [3.0, 1.0], "open": [7.0]}


def test_a_plateau_goes_on_from_its_state():
    config = ScheduleConfig("plateau", measure="loss/total", patience=1, factor=0.5)
    whole = Plateau(config, 0.1)
    for number in range(1, 20):
        whole.observe({"loss/total": 1.0}, epoch_ends=number % 2 == 0)
        other = Plateau(config, 0.1)
        other.restore(whole.state)
        assert (other.rate, other.state) == (whole.rate, whole.state)
    assert whole.rate == pytest.approx(0.1 * 0.5**4)


def test_a_plateau_of_another_measure_or_of_none_is_refused():
    plateau = Plateau(ScheduleConfig("plateau", measure="loss/total"), 0.1)
    with pytest.raises(InputError, match=r"schedule\.measure was eval/val_loss, is now loss/total"):
        plateau.restore({"measure": "eval/val_loss", "values": [], "open": []})
    with pytest.raises(InputError, match=r"schedule\.measure loss/total is not in the log .* it has loss/x"):
        plateau.observe({"loss/x": 1.0}, epoch_ends=True)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"measure": "val_loss"}, r"schedule\.measure must be eval/NAME"),
        ({"factor": 1.0}, r"takes no schedule\.warmup, .* a schedule\.factor below 1"),
        ({"warmup": 3}, r"takes no schedule\.warmup"),
        ({"patience": -1}, r"schedule\.patience of 0 or more"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        ScheduleConfig("plateau", **wrong)
