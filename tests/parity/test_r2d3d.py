"""R2D3D beside what the releases of DualVar and CoCLR computed; tolerances are those of the vectors' README."""

import numpy as np
import torch

from models.backbones.r2d3d import LAYOUTS, R2D3D
from tests.parity.recorded import filled_log_variance, keys_of, near, normal_input, outputs_of, shapes_below


def published(depth, layout):
    backbone = R2D3D(depth=depth)
    state = {
        key: torch.from_numpy(filled_log_variance(LAYOUTS[layout](key), value.shape))
        for key, value in backbone.state_dict().items()
    }
    backbone.load_state_dict(state)
    return backbone.eval()


def check_keys(backbone, layout, keys):
    ours = {LAYOUTS[layout](key): tuple(value.shape) for key, value in backbone.state_dict().items()}
    assert ours == shapes_below(keys["state_dict"])
    assert sum(p.numel() for p in backbone.parameters()) == keys["params"]
    assert backbone.out_dim == keys["feature_size"]


def test_keys_and_feature_maps_of_depth_18_are_those_of_dualvar():
    check_keys(published(18, "dualvar"), "dualvar", keys_of("dualvar")["r2d3d18"])
    for z in outputs_of("dualvar"):
        backbone = published(18, "dualvar")
        stats = []
        with torch.no_grad():
            x = normal_input((1, 3, 16, 32, 32), int(z["seed_eval"]))
            conv, norm, relu, pool = backbone.stem
            for part in (conv, torch.nn.Sequential(norm, relu), torch.nn.Sequential(pool, backbone.stages[0])):
                x = part(x)
                stats.append(statistics(x))
            for part in backbone.parts()[2:]:
                x = part(x)
                stats.append(statistics(x))
            near(x.numpy(), z["r2d3d18_eval_out"])
            np.testing.assert_allclose(stats, z["r2d3d18_eval_stage_stats"], rtol=1e-4, atol=1e-5)
            near(
                backbone.train()(normal_input((2, 3, 8, 32, 32), int(z["seed_train"]))).numpy(), z["r2d3d18_train_out"]
            )
        buffers = {LAYOUTS["dualvar"](key): value.numpy() for key, value in backbone.state_dict().items()}
        near(buffers["bn1.running_mean"], z["r2d3d18_train_first_running_mean"])
        near(buffers["layer4.1.bn2.running_var"], z["r2d3d18_train_last_running_var"])


def statistics(x):
    return [float(x.mean()), float(x.std()), float(x.norm())]


def test_keys_and_feature_map_of_depth_50_are_those_of_coclr():
    backbone = published(50, "coclr")
    check_keys(backbone, "coclr", keys_of("dualvar")["coclr_r50"])
    for z in outputs_of("dualvar"):
        with torch.no_grad():
            near(
                backbone(normal_input(tuple(z["coclr_r50_shape"]), int(z["coclr_r50_seed"]))).numpy(),
                z["coclr_r50_eval_out"],
            )
