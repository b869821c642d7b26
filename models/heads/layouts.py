"""Names of heads in the published weights, and a head's state read from them.

Names are those of the whole published model, without the `module.` of data parallel training.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from data_process.errors import InputError

Names = Mapping[str, str]
"""Layer of our head to the layer of the original."""


def _mlp(prefix: str) -> Names:
    return {"hidden": f"{prefix}.0", "norm": f"{prefix}.1", "out": f"{prefix}.3"}


def _segments(prefix: str) -> Names:
    return {"hidden": f"{prefix}.0", "out": f"{prefix}.2"}


def _encoder(prefix: str) -> Names:
    return {"hidden": f"{prefix}.2", "out": f"{prefix}.4"}


_I3D_CLASSIFIER = "conv3d_0c_1x1_custom.conv3d"
_FINAL: tuple[Names, ...] = (
    {"norm": "final_bn", "hidden": "final_fc.0", "out": "final_fc.2"},
    {"hidden": "final_fc.0", "out": "final_fc.2"},
    {"norm": "final_bn", "out": "final_fc.0"},
    {"norm": "final_bn", "out": "final_fc.1"},  # behind dropout
    {"out": "final_fc.0"},
    {"out": "final_fc.1"},
)

HEADS: dict[str, dict[str, tuple[Names, ...]]] = {
    "iic": {"classifier": ({"out": "linear"},)},
    "vtdl": {
        "identity": ({"out": "id_head.2"},),
        "pseudo_labels": ({"out": "cls_head.2"},),
        "classifier": ({"conv": _I3D_CLASSIFIER}, {"conv": "cp"}, {"out": "linear"}),
    },
    "dualvar": {
        "projection": (_encoder("encoder_q"),),
        "momentum_projection": (_encoder("encoder_k"),),
        "segments": (_segments("series_proj_head"), _segments("series_proj_head_q")),
        "momentum_segments": (_segments("series_proj_head_k"),),
        "classifier": _FINAL,
    },
    "coclr": {
        "projection": (_encoder("encoder_q"),),
        "momentum_projection": (_encoder("encoder_k"),),
        "classifier": _FINAL,
    },
    "cstp": {
        "projector": (_mlp("online_net.project.net"),),
        "target_projector": (_mlp("target_net.project.net"),),
        "predictor": (_mlp("predictor.net"),),
        "spatial_overlap": (_mlp("overlap_spa"), {"out": "overlap_spa"}),
        "temporal_overlap": (_mlp("overlap_tem"), {"out": "overlap_tem"}),
        "playback": (_mlp("pb_cls"), {"out": "pb_cls"}),
        "rotation": (_mlp("rotate_cls"), {"out": "rotate_cls"}, {"out": "rot_cls"}),
        "classifier": (
            {"norm": "cls_bn", "out": "classify"},
            {"norm": "classify_bn", "out": "classify"},
            {"conv": f"online_net.{_I3D_CLASSIFIER}"},
        ),
    },
}
"""Layout to role to the names that its networks use, which differ between backbones."""


def original_names(head: nn.Module, names: Names) -> dict[str, str]:
    """Key of the head's state dict to the key of the original."""
    keys = {}
    for key in head.state_dict():
        layer, _, tensor = key.partition(".")
        keys[key] = f"{names[layer]}.{tensor}"
    return keys


def head_state(head: nn.Module, original: Mapping[str, Tensor], *, layout: str, role: str) -> dict[str, Tensor]:
    """What `head.load_state_dict` takes, from the state of a published model.

    1x1x1 convolutions of the originals become linear layers.

    Args:
        head: of the classes of this package.
        original: names without `module.`.
        layout: of `HEADS`.
        role: of the head in that layout.

    Raises:
        InputError: where the state holds no such head, or one of another shape.
    """
    known = HEADS.get(layout, {})
    if role not in known:
        listed = ", ".join(f"{one} ({', '.join(roles)})" for one, roles in HEADS.items())
        raise InputError(f"there is no head {role!r} in the layout {layout!r}; known are {listed}")
    layers = {key.partition(".")[0] for key in head.state_dict()}
    alternatives = [original_names(head, names) for names in known[role] if set(names) == layers]
    own = head.state_dict()
    for keys in alternatives:
        if set(keys.values()) <= set(original):
            return {key: _fitted(original[name], own[key], name) for key, name in keys.items()}
    looked_for = " or ".join(", ".join(keys.values()) for keys in alternatives)
    raise InputError(
        f"the weights hold no {layout} {role} of the layers {', '.join(sorted(layers))}"
        + (f"; looked for {looked_for}" if looked_for else "; its networks have other layers there")
    )


def _fitted(given: Tensor, wanted: Tensor, name: str) -> Tensor:
    shape = tuple(given.shape)
    while len(shape) > wanted.ndim and shape[-1] == 1:
        shape = shape[:-1]
    if shape != tuple(wanted.shape):
        raise InputError(f"{name} is {tuple(given.shape)}, the head has {tuple(wanted.shape)}; give it the same sizes")
    return given.reshape(wanted.shape)
