import pytest
import torch

from data_process.errors import InputError
from models.weights.architecture import build, find_kind
from models.weights.search import search

KIND = find_kind("r3d")


@pytest.fixture(scope="module")
def backbone():
    return build(KIND, {"width": 2})


@pytest.fixture(scope="module")
def state(backbone):
    return backbone.state_dict()


def behind(prefix, state, *, plus=0.0):
    return {f"{prefix}{key}": value + plus if value.is_floating_point() else value for key, value in state.items()}


@pytest.mark.parametrize("prefix", ["", "module.", "module.encoder_q.0.", "model.backbone.", "any.thing.3."])
def test_any_prefix_is_found(backbone, state, prefix):
    match = search({"a": {"b": behind(prefix, state)}}, backbone)
    assert match.is_whole
    assert (match.place.entry, match.place.prefix) == ("a.b", prefix)


@pytest.mark.parametrize("follower", ["encoder_k.0.", "module.target_net.", "teacher.", "sampler.0.", "momentum_net."])
def test_the_trained_network_is_taken_before_one_that_follows_it(backbone, state, follower):
    both = {**behind(follower, state, plus=1.0), **behind("net.", state)}
    match = search(both, backbone)
    assert match.place.prefix == "net."
    assert torch.equal(match.tensors["stem.0.weight"], state["stem.0.weight"])
    alone = search(behind(follower, state, plus=1.0), backbone)
    assert alone.is_whole


def test_the_momentum_copy_of_an_entry_is_taken_where_it_is_asked_for(backbone, state):
    content = {"model_ema": behind("", state, plus=1.0), "model": state}
    assert search(content, backbone).place.entry == "model"
    match = search(content, backbone, entry="model_ema")
    assert torch.equal(match.tensors["stem.0.weight"], state["stem.0.weight"] + 1)


def test_a_prefix_may_be_given_without_its_dot(backbone, state):
    both = {**behind("encoder_k.0.", state, plus=1.0), **behind("encoder_q.0.", state)}
    match = search(both, backbone, prefix="encoder_k.0")
    assert match.is_whole
    assert match.place.prefix == "encoder_k.0."


def test_a_damaged_trained_network_is_not_passed_over_for_the_one_that_follows_it(backbone, state):
    partial = behind("encoder_q.0.", state)
    del partial["encoder_q.0.stem.0.weight"]
    match = search({**behind("encoder_k.0.", state), **partial}, backbone)
    assert match.place.prefix == "encoder_q.0."
    assert match.missing == ("stem.0.weight",)


def test_two_networks_that_fit_equally_well_must_be_told_apart(backbone, state):
    both = {**behind("left.", state), **behind("right.", state, plus=1.0)}
    with pytest.raises(InputError, match=r"2 different networks.*--prefix 'left\.'; .*--prefix 'right\.'"):
        search(both, backbone)
    same = {**behind("left.", state), **behind("right.", state)}
    assert search(same, backbone).is_whole


def test_a_layout_that_is_asked_for_is_the_only_one_tried(backbone, state):
    with pytest.raises(InputError, match=r"nothing in the file has a name of .*\(tried: iic\)"):
        search(state, backbone, layout="iic")
    with pytest.raises(InputError, match="no layout 'cstpp'; it has intravid, iic"):
        search(state, backbone, layout="cstpp")


def test_a_file_without_such_an_entry_or_any_is_told(backbone, state):
    with pytest.raises(InputError, match="no state dict 'ema'; it has 'model'"):
        search({"model": state}, backbone, entry="ema")
    with pytest.raises(InputError, match="holds no named tensors"):
        search({"epoch": 3, "losses": [torch.ones(2)]}, backbone)
    with pytest.raises(InputError, match=r"nothing in the file behind 'net'"):
        search({"model": state}, backbone, prefix="net")


def test_parts_that_look_alike_are_no_networks(backbone):
    many = {f"layer{one}.{key}": torch.ones(1) * one for one in range(9) for key in ("stem.0.weight", "stem.1.bias")}
    assert not search(many, backbone).is_whole
