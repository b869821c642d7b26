"""Files of weights as the published programs save them: their dictionaries, prefixes, heads and momentum copies."""

import argparse

import numpy as np
import torch

from models.weights.copies import second_name
from tests.parity.recorded import filled

HEADS = {
    "iic": ("linear.weight", "linear.bias"),
    "vtdl": ("module.id_head.2.weight", "module.id_head.2.bias", "module.cls_head.2.weight"),
    "dualvar": ("encoder_q.2.weight", "encoder_q.4.bias", "series_proj_head.0.weight", "queue", "queue_ptr"),
    "cstp": ("module.online_net.project.net.0.weight", "module.predictor.net.1.running_var", "module.pb_cls.0.weight"),
    "coclr": ("encoder_q.2.weight", "queue", "queue_second", "queue_vname"),
    "torchvision": ("fc.weight", "fc.bias"),
    "intravid": ("contrast.banks.view1.rows", "contrast.constants"),
}
PREFIXES = {
    "vtdl": "module.",
    "dualvar": "encoder_q.0.",
    "cstp": "module.online_net.",
    "coclr": "encoder_q.0.",
    "intravid": "backbone.",
}
FOLLOWERS = {"dualvar": ("encoder_k.0.",), "cstp": ("module.target_net.",), "coclr": ("encoder_k.0.", "sampler.0.")}


def published_state(backbone, to_name, *, salt=""):
    """The backbone's entries under a layout's names, every layer of S3D under both, filled by the recorded recipe."""
    state = {}
    for key, value in backbone.state_dict().items():
        name = to_name(key)
        tensor = torch.from_numpy(filled(salt + name, value.shape))
        state[name] = tensor
        if second := second_name(name):
            state[second] = tensor
    return state


def saved_as(layout, state, other):
    """The dictionary that a program saves.

    Args:
        layout: whose.
        state: the backbone's entries under its names.
        other: the same with other values, for the networks that follow the trained one.
    """
    heads = {name: torch.ones(3, 2) for name in HEADS[layout]}
    named = {f"{PREFIXES.get(layout, '')}{name}": value for name, value in state.items()}
    following = {f"{behind}{name}": one for behind in FOLLOWERS.get(layout, ()) for name, one in other.items()}
    whole = {**following, **named, **heads}
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    if layout == "torchvision":
        return whole
    if layout == "intravid":
        return {"method": whole, "step": 3, "optimizer": optimizer}
    if layout in ("iic", "vtdl"):
        ema = {"model_ema": {f"module.{name}": value for name, value in other.items()}} if layout == "vtdl" else {}
        banks = {"memory_l": torch.zeros(4, 2), "params": torch.zeros(5)}
        options = argparse.Namespace(model="r3d", nce_k=1024)
        return {"opt": options, "model": whole, "contrast": banks, "optimizer": optimizer, "epoch": 240, **ema}
    told = {"arch": "r3d-18"} if layout == "cstp" else {"best_acc": np.float64(41.5), "iteration": 7}
    return {"epoch": 190, "state_dict": whole, "optimizer": optimizer, **told}
