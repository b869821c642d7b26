import pytest
import torch
from torch import nn

from engine.precision import Precision, PrecisionConfig

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_kernels_afterwards():
    yield
    torch.backends.mkldnn.enabled = True


def test_bfloat16_gradients_on_the_cpu_are_those_of_the_weights():
    precision = Precision(PrecisionConfig("bf16"), CPU)
    torch.manual_seed(0)
    # torch's fast kernels leave parts of the second gradient as they find them in memory, which is not a number here.
    conv = nn.Conv3d(64, 64, (5, 1, 1), padding=(2, 0, 0), bias=False)
    clips, wanted = torch.randn(2, 64, 3, 6, 6), torch.randn(2, 64, 3, 6, 6)
    with precision.autocast():
        precision.backward((conv(clips) * wanted).sum())
    exact = torch.nn.grad.conv3d_weight(clips, conv.weight.shape, wanted, padding=(2, 0, 0))
    assert (conv.weight.grad - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_run_in_the_configured_format(name, dtype):
    with Precision(PrecisionConfig(name), CPU).autocast():
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


def _trained(precision, clip_norm=0.0, scale=1.0):
    weight = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    precision.backward((weight * torch.tensor([3.0, 4.0]) * scale).sum())
    if clip_norm:
        precision.gradient_norm(optimizer, [weight], clip_norm=clip_norm)
    precision.step(optimizer)
    return weight.detach()


def test_clipping_bounds_the_norm_of_all_gradients_together():
    precision = Precision(PrecisionConfig(), CPU)
    torch.testing.assert_close(_trained(precision), torch.tensor([-3.0, -4.0]))
    torch.testing.assert_close(_trained(precision, clip_norm=1.0), torch.tensor([-0.6, -0.8]), rtol=1e-5, atol=0)


def test_fp16_scales_the_loss_and_clips_the_true_gradient():
    precision = Precision(PrecisionConfig("fp16"), CPU)
    assert precision.state()["scale"] > 1
    torch.testing.assert_close(_trained(precision, clip_norm=1.0), torch.tensor([-0.6, -0.8]), rtol=1e-5, atol=0)


def test_an_overflowing_fp16_step_is_left_out_and_its_scale_survives_a_restart():
    precision, again = Precision(PrecisionConfig("fp16"), CPU), Precision(PrecisionConfig("fp16"), CPU)
    before = precision.state()["scale"]
    assert torch.equal(_trained(precision, scale=float("inf")), torch.zeros(2))
    assert precision.state()["scale"] < before
    again.restore(precision.state())
    assert again.state() == precision.state()


def test_a_scale_of_another_format_is_not_taken_over():
    precision = Precision(PrecisionConfig("fp16"), CPU)
    before = precision.state()
    precision.restore(Precision(PrecisionConfig("fp32"), CPU).state())
    assert precision.state() == before


def test_the_norm_is_that_of_the_gradients_before_clipping_and_without_the_scale():
    for name in ("fp32", "fp16"):
        precision, weight = Precision(PrecisionConfig(name), CPU), nn.Parameter(torch.zeros(2))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        for clip_norm in (0.0, 1.0):
            optimizer.zero_grad()
            precision.backward((weight * torch.tensor([3.0, 4.0])).sum())
            norm = precision.gradient_norm(optimizer, [weight, nn.Parameter(torch.ones(3))], clip_norm=clip_norm)
            assert norm.item() == pytest.approx(5.0)
            assert weight.grad.norm().item() == pytest.approx(clip_norm or 5.0, rel=1e-5)
            precision.step(optimizer)


@pytest.mark.parametrize("with_norm", [True, False])
def test_a_step_that_is_left_out_keeps_weights_and_lowers_the_scale_of_infinite_gradients(with_norm):
    precision, weight = Precision(PrecisionConfig("fp16"), CPU), nn.Parameter(torch.zeros(2))
    optimizer, before = torch.optim.SGD([weight], lr=1.0), precision.state()["scale"]
    for scale in (float("inf"), 1.0):
        optimizer.zero_grad()
        precision.backward((weight * scale).sum())
        if with_norm:
            precision.gradient_norm(optimizer, [weight])
        precision.leave_out(optimizer)
        assert torch.equal(weight, torch.zeros(2))
        assert precision.state()["scale"] == before / 2
    precision.backward(weight.sum())
    precision.step(optimizer)
    assert not torch.equal(weight, torch.zeros(2))
