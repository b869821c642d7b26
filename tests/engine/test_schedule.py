from pathlib import Path

import numpy as np
import pytest

from data_process.errors import InputError
from engine.schedule import ScheduleConfig, build_schedule

VECTORS = Path(__file__).parents[3] / "shared/reference/vectors/iic/schedules.npz"


def rates(config, num_steps, **sizes):
    schedule = build_schedule(config, **({"base_lr": 0.1, "num_steps": num_steps, "steps_per_epoch": 10} | sizes))
    return np.array([schedule(step) for step in range(num_steps)])


@pytest.mark.skipif(not VECTORS.exists(), reason="the recorded learning rates are not beside this checkout")
def test_multistep_is_iics_recorded_rate_in_every_epoch():
    recorded = np.load(VECTORS)["pretrain_lr_epoch1_to_240"]
    schedule = build_schedule(ScheduleConfig("multistep"), base_lr=0.01, num_steps=240 * 7, steps_per_epoch=7)
    for step_in_epoch in (0, 6):
        ours = [schedule(epoch * 7 + step_in_epoch) for epoch in range(240)]
        np.testing.assert_allclose(ours, recorded, rtol=1e-12)


def test_multistep_falls_after_the_milestone_epochs_end():
    ours = rates(ScheduleConfig("multistep", milestones=(2, 3), factor=0.5), 40)
    np.testing.assert_allclose(ours, [0.1] * 20 + [0.05] * 10 + [0.025] * 10, rtol=1e-12)


def test_warmup_rises_in_a_line_and_meets_the_full_rate():
    ours = rates(ScheduleConfig("constant", warmup=4), 6)
    np.testing.assert_allclose(ours, [0.025, 0.05, 0.075, 0.1, 0.1, 0.1], rtol=1e-12)


def test_cosine_starts_full_after_warmup_and_would_end_at_the_final_rate():
    config = ScheduleConfig("cosine", warmup=10, final_lr=0.01)
    schedule = build_schedule(config, base_lr=0.1, num_steps=110, steps_per_epoch=10)
    assert schedule(10) == pytest.approx(0.1)
    assert schedule(60) == pytest.approx(0.055)
    assert schedule(110) == pytest.approx(0.01)
    assert (np.diff([schedule(step) for step in range(10, 111)]) < 0).all()


def test_rise_fall_changes_by_epochs_peaks_in_the_middle_and_comes_back():
    ours = rates(ScheduleConfig("rise_fall", final_lr=0.01), 80)
    by_epoch = ours.reshape(8, 10)
    assert (by_epoch == by_epoch[:, :1]).all()
    expected = [0.01, 0.0325, 0.055, 0.0775, 0.1, *(0.01 + 0.045 * (1 + np.cos(np.pi * np.arange(1, 4) / 4)))]
    np.testing.assert_allclose(by_epoch[:, 0], expected, rtol=1e-12)


@pytest.mark.parametrize("wrong", [{"final_lr": 0.0}, {"final_lr": 0.01, "warmup": 5}])
def test_rise_fall_has_its_own_warmup_and_never_stands_still(wrong):
    with pytest.raises(InputError, match=r"schedule\.final_lr, which must be positive"):
        ScheduleConfig("rise_fall", **wrong)


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(InputError, match=r"schedule\.warmup \(50\)"):
        rates(ScheduleConfig("cosine", warmup=50), 20)
