"""Every backbone under torch.compile; beside test_backbones.py, so that another process can take it."""

import copy

import pytest
import torch

from tests.models.test_backbones import assert_same_gradients, drawn_clips, every_backbone, gradients, made


@every_backbone
def test_a_training_step_is_captured_as_one_graph_and_is_the_same(kind):
    plain, clips = made(kind).double(), drawn_clips()
    compiled = copy.deepcopy(plain)
    torch.compiler.reset()
    graph = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    graph(clips.double()).square().mean().backward()
    captured = torch.cat([parameter.grad.flatten() for parameter in compiled.parameters()])
    assert_same_gradients(captured, gradients(plain, clips))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, msg=name)


def working_compiler():
    """The C++ compiler that inductor would use; None where there is none."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return get_cpp_compiler()
    except InvalidCxxCompiler:
        return None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own, inside of inductor
@every_backbone
def test_compiled_by_inductor_the_features_are_the_same(kind):
    if working_compiler() is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU, and there is none")
    backbone, clips = made(kind).eval(), drawn_clips()
    torch.compiler.reset()
    # Code without vector instructions is compiled twice as fast.
    compiled = torch.compile(backbone, fullgraph=True, options={"cpp.simdlen": 1})
    with torch.no_grad():
        torch.testing.assert_close(compiled(clips), backbone(clips), rtol=1e-4, atol=1e-5)
