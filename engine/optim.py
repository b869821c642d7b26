"""The optimizer: plain torch by default, fused where it pays, NVIDIA apex where it is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from data_process.errors import InputError


@dataclass(frozen=True)
class OptimConfig:
    """How gradients become weights.

    Attributes:
        name: ``sgd`` (with momentum), ``adamw``, or for large batches ``lars`` (arXiv 1708.03888) or ``lamb`` (arXiv
            1904.00962), of the package pytorch-optimizer.
        lr: learning rate at the schedule's value 1; for the global batch as it is, unless `scale_lr` says otherwise.
        scale_lr: ``none``; ``linear``: `lr` is for `base_batch` samples a step and grows with the global batch
            (arXiv 1706.02677); ``sqrt``: with its square root.
        base_batch: samples a step that `lr` was chosen for, where it is scaled.
        momentum: of SGD and LARS.
        nesterov: Nesterov's form of it.
        betas: of AdamW and LAMB.
        rates: beginnings of parameters' names (those of checkpoints, ``backbone.``, ``classifier.``) to factors of the
            learning rate, such as ``{backbone.: 0.1}``; the longest that fits counts, all others have the rate itself.
        weight_decay: decoupled in AdamW; in LARS and LAMB inside of what a tensor's norm scales, as in the papers.
        trust: of LARS, its trust coefficient (there named eta).
        decay_all: decay norm weights and biases too, as the four papers' code does; False leaves out all parameters
            with fewer than two dimensions.
        clip_norm: largest norm of all gradients together; 0 for no clipping.
        fused: ``auto`` is torch's fused kernel on a GPU and its plain one on the CPU; ``torch`` asks for the fused one
            anywhere; ``apex`` for NVIDIA apex (GPU only).
    """

    name: Literal["sgd", "adamw", "lars", "lamb"] = "sgd"
    lr: float = 0.01
    scale_lr: Literal["none", "linear", "sqrt"] = "none"
    base_batch: int = 256
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    decay_all: bool = True
    clip_norm: float = 0.0
    trust: float = 1e-3
    fused: Literal["auto", "torch", "apex"] = "auto"
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.lr <= 0 or min(self.weight_decay, self.clip_norm) < 0 or not 0 <= self.momentum < 1:
            raise InputError(
                "optim.lr must be positive, optim.weight_decay and optim.clip_norm not negative, optim.momentum in "
                f"[0, 1); got {self.lr}, {self.weight_decay}, {self.clip_norm}, {self.momentum}"
            )
        if self.base_batch < 1 or self.trust <= 0:
            raise InputError(
                f"optim.base_batch must be at least 1 and optim.trust positive, got {self.base_batch} and {self.trust}"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"optim.betas must lie in [0, 1), got {self.betas}")
        if any(rate < 0 for rate in self.rates.values()):
            raise InputError(f"optim.rates must not be negative, got {self.rates}")
        if self.nesterov and self.momentum == 0:
            raise InputError("optim.nesterov needs optim.momentum above 0")

    def rate_for(self, global_batch: int) -> float:
        """Learning rate at the schedule's value 1 of a run with so many samples a step."""
        ratio = global_batch / self.base_batch
        return self.lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[self.scale_lr]


def build_optimizer(config: OptimConfig, module: nn.Module, *, device: torch.device) -> Optimizer:
    """Optimizer over all parameters of a module that want a gradient.

    Raises:
        InputError: if nothing is trainable, or a package is asked for and not there.
    """
    groups = parameter_groups(module, weight_decay=config.weight_decay, decay_all=config.decay_all, rates=config.rates)
    if config.name in ("lars", "lamb"):
        return _large_batch(config, groups)
    if config.fused == "apex":
        return _apex(config, groups, device)
    fused = True if config.fused == "torch" or device.type == "cuda" else None
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=fused)
    return torch.optim.SGD(
        groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused
    )  # weight decay stands in the groups


def parameter_groups(
    module: nn.Module, *, weight_decay: float, decay_all: bool, rates: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Groups for an optimizer; with `decay_all` one, else one that decays and one (norms, biases) that does not.

    Args:
        module: whose parameters.
        weight_decay: of those that decay.
        decay_all: whether all do.
        rates: beginnings of names to factors of the learning rate; each factor has groups of its own.

    Raises:
        InputError: where nothing is trainable, or a beginning fits no name.
    """
    trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not trainable:
        raise InputError(f"{type(module).__name__} has no trainable parameter")
    of_rate: dict[str, list[nn.Parameter]] = {"": [], **{start: [] for start in rates or {}}}
    for name, parameter in trainable.items():
        of_rate[max((start for start in of_rate if name.startswith(start)), key=len)].append(parameter)
    if idle := [start for start in rates or {} if not any(name.startswith(start) for name in trainable)]:
        known = sorted({f"{name.partition('.')[0]}." for name in trainable})
        raise InputError(
            f"optim.rates {idle[0]}: no trained parameter begins so; there are {', '.join(known)} and what is below"
        )
    groups = []
    for start, parameters in of_rate.items():
        rate = {"rate": rates[start]} if rates and start in rates else {}
        if decay_all:
            groups.append({"params": parameters, "weight_decay": weight_decay, **rate})
            continue
        matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
        vectors = [parameter for parameter in parameters if parameter.ndim < 2]
        groups += [
            {"params": matrices, "weight_decay": weight_decay, **rate},
            {"params": vectors, "weight_decay": 0.0, **rate},
        ]
    return [group for group in groups if group["params"]]


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Use `lr` in the next step, times the factor of each group that has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("rate", 1.0)


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """What a checkpoint keeps: torch's state and the kind of optimizer that it belongs to."""
    return {"kind": type(optimizer).__name__, **optimizer.state_dict()}


def restore_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Take moments and counters from a checkpoint; learning rate, decay and the like stay as configured now.

    torch's own `load_state_dict` would bring the old settings back in silence.

    Raises:
        InputError: if the state belongs to another kind of optimizer or another set of parameters.
    """
    kind = type(optimizer).__name__
    if state["kind"] != kind:
        raise InputError(
            f"the checkpoint was trained with {state['kind']}, but optim.name gives {kind}; set optim.name (and "
            "optim.fused) as before, or start a new run in another folder"
        )
    now = optimizer.state_dict()["param_groups"]
    then = state["param_groups"]
    if [len(group["params"]) for group in then] != [len(group["params"]) for group in now]:
        raise InputError(
            "the checkpoint's optimizer has other parameter groups than the one configured now; set optim.decay_all "
            "and the method's settings as before, or start a new run in another folder"
        )
    # LAMB counts its steps in the groups.
    counted = [group | {"step": old["step"]} if "step" in old else group for group, old in zip(now, then, strict=True)]
    optimizer.load_state_dict({"state": state["state"], "param_groups": counted})


def _large_batch(config: OptimConfig, groups: list[dict[str, Any]]) -> Optimizer:
    if config.fused == "apex":
        raise InputError(f"optim.fused apex has no {config.name} that this program uses; set optim.fused to auto")
    try:
        from pytorch_optimizer import LARS, Lamb
    except ImportError as error:
        raise InputError(
            f"optim.name {config.name} needs the package pytorch-optimizer: pip install 'intravid[large-batch]'"
        ) from error
    # The rate of a tensor follows its norm, which vectors (norms, biases) are left out of, with their decay.
    if config.name == "lamb":
        # Without bias correction, as in the paper's last versions; the package's switches are named the other way.
        return Lamb(groups, lr=config.lr, betas=config.betas, weight_decouple=False, adam_debias=True)
    return LARS(
        groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, trust_coefficient=config.trust
    )


def _apex(config: OptimConfig, groups: list[dict[str, Any]], device: torch.device) -> Optimizer:
    if device.type != "cuda":
        raise InputError("optim.fused apex needs a GPU; set optim.fused to auto")
    try:
        from apex import optimizers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            "optim.fused is apex, but NVIDIA apex is not installed: pip install git+https://github.com/NVIDIA/apex "
            "(its CUDA extensions have to be built), or set optim.fused to auto"
        ) from error
    if config.name == "adamw":
        return optimizers.FusedAdam(groups, lr=config.lr, betas=config.betas, adam_w_mode=True)
    return optimizers.FusedSGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
