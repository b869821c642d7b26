"""The learning rates of the fine-tuning recipes, epoch by epoch, against what was recorded or written down."""

import numpy as np
import pytest

from engine.schedule import build_schedule
from launch.config import load_run
from tests.launch.recipes import CONFIGS
from tests.parity.recorded import found, load


def rates(recipe, steps_per_epoch=5):
    """Rate of each epoch; the same in its first and last step."""
    config = load_run(CONFIGS / "eval" / f"{recipe}.yaml").config
    steps = config.train.num_steps(steps_per_epoch)
    base = config.optim.rate_for(config.train.global_batch)
    schedule = build_schedule(config.schedule, base_lr=base, num_steps=steps, steps_per_epoch=steps_per_epoch)
    by_epoch = np.array([schedule(step) for step in range(steps)]).reshape(-1, steps_per_epoch)
    assert (by_epoch == by_epoch[:, :1]).all()
    return by_epoch[:, 0]


@pytest.mark.parametrize("path", found("vtdl", "schedules*.npz"), ids=lambda path: path.stem)
def test_vtdls_are_the_recorded_ones(path):
    recorded = load(path)["finetune_lr_epoch0_to_44"]
    np.testing.assert_allclose(rates("finetune_vtdl_i3d_hmdb51"), recorded, rtol=1e-12)
    np.testing.assert_allclose(rates("finetune_vtdl_i3d_ucf101"), recorded / 2, rtol=1e-12)  # 0.0005 in the README


@pytest.mark.parametrize(("pretrained", "epochs", "falls"), [("", 100, (30, 60, 80)), ("k400_", 150, (50, 100))])
def test_dualvars_fall_to_a_tenth_at_the_published_epochs(pretrained, epochs, falls):
    expected = [0.05 * 0.1 ** sum(epoch >= fall for fall in falls) for epoch in range(epochs)]
    for dataset in ("ucf101", "hmdb51"):
        np.testing.assert_allclose(rates(f"finetune_dualvar_r21d_{pretrained}{dataset}"), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("recipe", "published"),
    [
        ("iic_r3d_ucf101", ("eval/val_loss", 0.001, 0.1, 50, 1e-5, 150)),
        ("cstp_r21d_ucf101", ("eval/val_loss", 0.025, 0.1, 10, 0.0, 100)),
        ("cstp_r21d_k400_ucf101", ("eval/val_loss", 0.02, 0.1, 10, 0.0, 100)),
    ],
)
def test_plateaus_have_the_published_patience_factor_and_floor(recipe, published):
    config = load_run(CONFIGS / "eval" / f"finetune_{recipe}.yaml").config
    plateau = config.schedule
    assert plateau.name == "plateau"
    told = (plateau.measure, config.optim.lr, plateau.factor, plateau.patience, plateau.final_lr, config.train.epochs)
    assert told == published
