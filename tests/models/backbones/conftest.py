import pytest
import torch
from torch import nn


@pytest.fixture
def random_norms():
    """Gives a network scales, shifts and statistics of batch norms that are no longer 1 and 0."""

    def draw(network):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                nn.init.normal_(module.weight, 1.0, 0.2)
                nn.init.normal_(module.bias, 0.0, 0.2)
                nn.init.normal_(module.running_mean, 0.0, 0.2)
                nn.init.uniform_(module.running_var, 0.2, 2.0)
        return network

    torch.manual_seed(0)
    return draw
