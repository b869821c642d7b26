import copy

import numpy as np
import pytest
import torch
from torch import nn

from data_process.errors import InputError
from engine.optim import (
    OptimConfig,
    build_optimizer,
    optimizer_state,
    parameter_groups,
    restore_optimizer,
    set_learning_rate,
)

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def one_step(module, optimizer, seed=0):
    inputs = torch.from_numpy(np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32))
    optimizer.zero_grad()
    module(inputs).pow(2).mean().backward()
    optimizer.step()


def test_sgd_follows_the_written_out_momentum_rule():
    module = nn.Linear(2, 1, bias=False)
    weight = module.weight.detach().clone()
    optimizer = build_optimizer(OptimConfig(lr=0.1, momentum=0.9, weight_decay=0.01), module, device=CPU)
    velocity = torch.zeros_like(weight)
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        velocity = 0.9 * velocity + 1.0 + 0.01 * weight
        weight = weight - 0.1 * velocity
    torch.testing.assert_close(module.weight.detach(), weight)


def test_decay_reaches_all_parameters_by_default_and_only_matrices_otherwise():
    everything = build_optimizer(OptimConfig(weight_decay=0.5), network(), device=CPU)
    assert [(len(group["params"]), group["weight_decay"]) for group in everything.param_groups] == [(6, 0.5)]
    matrices = build_optimizer(OptimConfig(weight_decay=0.5, decay_all=False), network(), device=CPU)
    assert [(len(group["params"]), group["weight_decay"]) for group in matrices.param_groups] == [(2, 0.5), (4, 0.0)]


def test_frozen_parameters_are_left_out():
    module = network()
    module[0].requires_grad_(False)
    optimizer = build_optimizer(OptimConfig(), module, device=CPU)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4
    with pytest.raises(InputError, match="no trainable parameter"):
        build_optimizer(OptimConfig(), module.requires_grad_(False), device=CPU)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars", "lamb"])
def test_a_restored_optimizer_goes_on_bit_for_bit_with_the_new_settings(name):
    unbroken, resumed = network(), network()
    first = build_optimizer(OptimConfig(name, lr=0.1), unbroken, device=CPU)
    one_step(unbroken, first)
    second = build_optimizer(OptimConfig(name, lr=0.1, weight_decay=0.25), resumed, device=CPU)
    resumed.load_state_dict(unbroken.state_dict())
    restore_optimizer(second, copy.deepcopy(optimizer_state(first)))
    assert second.param_groups[0]["weight_decay"] == 0.25
    second.param_groups[0]["weight_decay"] = first.param_groups[0]["weight_decay"]
    for seed in (1, 2):
        one_step(unbroken, first, seed)
        one_step(resumed, second, seed)
    assert all(torch.equal(a, b) for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True))


def test_another_kind_of_optimizer_is_refused_by_name():
    state = optimizer_state(build_optimizer(OptimConfig("sgd"), network(), device=CPU))
    with pytest.raises(InputError, match=r"trained with SGD, but optim\.name gives AdamW"):
        restore_optimizer(build_optimizer(OptimConfig("adamw"), network(), device=CPU), state)


def test_other_parameter_groups_are_refused():
    state = optimizer_state(build_optimizer(OptimConfig(), network(), device=CPU))
    with pytest.raises(InputError, match=r"optim\.decay_all"):
        restore_optimizer(build_optimizer(OptimConfig(decay_all=False), network(), device=CPU), state)


def test_the_learning_rate_is_set_in_every_group():
    optimizer = build_optimizer(OptimConfig(decay_all=False), network(), device=CPU)
    set_learning_rate(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


def test_apex_without_a_gpu_names_the_setting():
    with pytest.raises(InputError, match=r"optim\.fused"):
        build_optimizer(OptimConfig(fused="apex"), network(), device=CPU)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"momentum": 1.0}, {"betas": (0.9, 1.0)}, {"clip_norm": -1.0}])
def test_impossible_settings_are_refused_when_built(wrong):
    with pytest.raises(InputError, match=f"optim.{next(iter(wrong))}"):
        OptimConfig(**wrong)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lars_follows_the_written_out_rule(momentum):
    pytest.importorskip("pytorch_optimizer", reason="pytorch-optimizer (the extra `large-batch`) is not installed")
    module, decay, trust, lr = network().double(), 0.05, 0.02, 0.3
    config = OptimConfig("lars", lr=lr, momentum=momentum, weight_decay=decay, trust=trust)
    optimizer = build_optimizer(config, module, device=CPU)
    ours = [parameter.detach().clone() for parameter in module.parameters()]
    velocities = [torch.zeros_like(parameter) for parameter in ours]
    for seed in range(4):
        gradients = gradients_of(module, optimizer, seed)
        for weight, gradient, velocity in zip(ours, gradients, velocities, strict=True):
            if weight.ndim > 1:
                rate = trust * weight.norm() / (gradient.norm() + decay * weight.norm())
                gradient = rate * (gradient + decay * weight)
            velocity.mul_(momentum).add_(gradient)
            weight.sub_(lr * velocity)
    for weight, expected in zip(module.parameters(), ours, strict=True):
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-10, atol=1e-12)


def test_lamb_follows_the_written_out_rule():
    pytest.importorskip("pytorch_optimizer", reason="pytorch-optimizer (the extra `large-batch`) is not installed")
    module, decay, lr, (one, two) = network().double(), 0.05, 0.1, (0.8, 0.95)
    optimizer = build_optimizer(OptimConfig("lamb", lr=lr, betas=(one, two), weight_decay=decay), module, device=CPU)
    ours = [parameter.detach().clone() for parameter in module.parameters()]
    first, second = ([torch.zeros_like(parameter) for parameter in ours] for _ in range(2))
    for seed in range(4):
        gradients = gradients_of(module, optimizer, seed)
        for weight, gradient, mean, square in zip(ours, gradients, first, second, strict=True):
            mean.mul_(one).add_((1 - one) * gradient)
            square.mul_(two).add_((1 - two) * gradient**2)
            update = mean / (square.sqrt() + 1e-6) + decay * weight
            length = weight.norm().clamp(0, 10)
            ratio = length / (update.norm() + 1e-6) if length > 0 and update.norm() > 0 else 1.0
            weight.sub_(lr * ratio * update)
    for weight, expected in zip(module.parameters(), ours, strict=True):
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-8, atol=1e-10)


def gradients_of(module, optimizer, seed):
    """Gradients of a step that is taken; the optimizer may write into them."""
    inputs = torch.from_numpy(np.random.default_rng(seed).normal(size=(8, 3)))
    optimizer.zero_grad()
    module(inputs).pow(2).mean().backward()
    gradients = [parameter.grad.clone() for parameter in module.parameters()]
    optimizer.step()
    return gradients


@pytest.mark.parametrize(("how", "expected"), [("none", 0.2), ("linear", 0.8), ("sqrt", 0.4)])
def test_the_rate_grows_with_the_batch_where_it_is_asked_to(how, expected):
    assert OptimConfig(lr=0.2, scale_lr=how, base_batch=64).rate_for(256) == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [{"base_batch": 0}, {"trust": 0.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        OptimConfig(**wrong)


def test_groups_of_parameters_have_rates_of_their_own():
    module = torch.nn.ModuleDict({"body": network(), "head": torch.nn.Linear(2, 2)})
    rates = {"body.": 0.1, "body.0.": 0.0}
    optimizer = build_optimizer(OptimConfig("sgd", lr=1.0, rates=rates), module, device=torch.device("cpu"))
    set_learning_rate(optimizer, 0.5)
    found = {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
    for name, parameter in module.named_parameters():
        expected = 0.5 if name.startswith("head") else 0.0 if name.startswith("body.0.") else 0.05
        assert found[id(parameter)] == pytest.approx(expected), name
    split = parameter_groups(module, weight_decay=0.1, decay_all=False, rates=rates)
    assert sum(len(group["params"]) for group in split) == len(list(module.parameters()))
    assert all((group["weight_decay"] == 0.1) == all(one.ndim > 1 for one in group["params"]) for group in split)


def test_a_rate_for_no_parameter_is_refused_with_the_names_that_there_are():
    module = torch.nn.ModuleDict({"body": network(), "head": torch.nn.Linear(2, 2)})
    with pytest.raises(InputError, match=r"optim\.rates backbone\.: no trained parameter .* body\., head\."):
        build_optimizer(OptimConfig("sgd", rates={"backbone.": 0.1}), module, device=torch.device("cpu"))
    with pytest.raises(InputError, match=r"optim\.rates must not be negative"):
        OptimConfig(rates={"body.": -1.0})
