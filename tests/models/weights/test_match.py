import pytest
import torch

from data_process.errors import InputError
from models.weights.copies import second_name
from models.weights.match import Place, find_prefixes, match_at
from models.weights.report import refuse, report

NAMES = {"a": "Conv_1a.conv.weight", "b": "Mixed_3c.bn.running_var", "n": "Mixed_3c.bn.num_batches_tracked"}
OWN = {"a": torch.zeros(2, 3), "b": torch.zeros(2), "n": torch.tensor(0)}
PLACE = Place("coclr", prefix="net.")


def held(**changes):
    """A state dict that has every entry under both names, then changed: NAME=None removes."""
    values = {"a": torch.ones(2, 3), "b": torch.ones(2), "n": torch.tensor(4)}
    state = {}
    for key, value in values.items():
        state[NAMES[key]] = value
        state[second_name(NAMES[key])] = value.clone()
    state |= {name.replace("__", "."): value for name, value in changes.items()}
    return {f"net.{name}": value for name, value in state.items() if value is not None}


def match(**changes):
    return match_at(PLACE, NAMES, OWN, held(**changes))


def test_second_names_are_those_of_the_stages():
    assert second_name("Conv_1a.bn1.bias") == "block1.0.bn1.bias"
    assert second_name("Conv_2c.conv1.weight") == "block2.2.conv1.weight"
    assert second_name("Mixed_4f.branch0.0.bn.weight") == "block4.5.branch0.0.bn.weight"
    assert second_name("layer1.0.conv1.weight") is None


def test_equal_copies_are_dropped_and_counted():
    found = match()
    assert found.is_whole
    assert found.copies == 3
    assert sorted(found.tensors) == ["a", "b", "n"]
    assert found.beside == {}


def test_unequal_copies_are_refused_even_where_a_part_would_do():
    found = match(block1__0__conv__weight=torch.zeros(2, 3))
    assert found.unequal == ("Conv_1a.conv.weight",)
    with pytest.raises(InputError, match=r"1 entries are held twice with different values.*Conv_1a"):
        refuse(found, "file.pth", allow_partial=True)


@pytest.mark.parametrize("gone", ["Conv_1a__conv__weight", "block1__0__conv__weight"])
def test_either_name_is_enough(gone):
    found = match(**{gone: None})
    assert found.is_whole
    assert found.copies == 2
    assert torch.equal(found.tensors["a"], torch.ones(2, 3))


def test_a_missing_counter_of_a_batch_norm_does_not_matter():
    found = match(Mixed_3c__bn__num_batches_tracked=None, block3__2__bn__num_batches_tracked=None)
    assert found.is_whole
    assert found.counters == (NAMES["n"],)
    assert "counters" in report(found, "file.pth")


def test_numbers_that_are_not_finite_are_refused_even_where_a_part_would_do():
    bad = torch.tensor([1.0, float("nan")])
    found = match(Mixed_3c__bn__running_var=bad, block3__2__bn__running_var=None)
    with pytest.raises(InputError, match=r"1 entries hold infinities or NaN .*Mixed_3c\.bn\.running_var"):
        refuse(found, "file.pth", allow_partial=True)


def test_names_in_modules_of_the_backbone_are_unexpected_and_others_are_left_out():
    found = match(Mixed_3c__gating__fc__weight=torch.ones(1), classify__weight=torch.ones(1))
    assert found.unexpected == ("Mixed_3c.gating.fc.weight",)
    assert found.beside == {"classify": 1}
    told = report(found, "file.pth")
    assert "unexpected  1 (Mixed_3c.gating.fc.weight)" in told
    assert "left out    1 of heads and others: classify (1)" in told
    with pytest.raises(InputError, match="unexpected 1"):
        refuse(found, "file.pth")


def test_nothing_that_fits_is_refused_even_where_a_part_would_do():
    nothing = match_at(PLACE, NAMES, {key: torch.zeros(7, 7) for key in NAMES}, held())
    assert nothing.named == 3
    with pytest.raises(InputError, match="no entry has the shape"):
        refuse(nothing, "file.pth", allow_partial=True)


def test_half_precision_becomes_the_type_of_the_backbone():
    found = match(Mixed_3c__bn__running_var=torch.ones(2).half(), block3__2__bn__running_var=None)
    assert found.tensors["b"].dtype == torch.float32


def test_the_report_counts_and_names():
    found = match(Conv_1a__conv__weight=torch.ones(5), block1__0__conv__weight=None)
    lines = report(found, "file.pth").splitlines()
    assert lines[0] == "file.pth: the whole file, names of layout coclr behind 'net.'"
    assert lines[1] == "  matched     2 of 3 entries, 3 numbers"
    assert lines[4] == "  mis-shaped  1 (Conv_1a.conv.weight [5] instead of [2, 3])"


def test_prefixes_are_counted_by_whole_names():
    names = {"a": "conv.weight", "b": "layer.conv.weight"}
    keys = dict.fromkeys(["x.conv.weight", "x.layer.conv.weight", "xlayer.conv.weight", "y.z"])
    assert find_prefixes(names, keys) == {"x.": 2, "x.layer.": 1, "xlayer.": 1}
