import pytest

from data_process.errors import InputError
from models.backbones.r3d import R3D
from models.weights.architecture import build, find_kind, full_settings, layouts, naming


def test_a_backbone_is_named_by_its_file_or_its_class():
    assert find_kind("r3d") is R3D
    assert find_kind("models.backbones.r3d.R3D") is R3D


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("r3dd", "there is no backbone 'r3dd'; did you mean r3d"),
        ("models.backbones.nothing.Net", "cannot import 'models.backbones.nothing'"),
        ("models.backbones.r3d.ResidualBlocks", "defines no subclass of models.backbone.Backbone so named"),
        ("models.backbones.r3d.nn", "defines no subclass"),
        ("os.path", "defines no subclass"),
    ],
)
def test_what_is_no_backbone_is_told(name, told):
    with pytest.raises(InputError, match=told):
        find_kind(name)


def test_settings_are_completed_and_unknown_ones_told():
    assert full_settings(R3D, {"width": 3}) == {"layers": (1, 1, 1, 1), "width": 3}
    with pytest.raises(InputError, match=r"widht is not a setting of models\.backbones\.r3d\.R3D; did you mean width"):
        full_settings(R3D, {"widht": 3})
    with pytest.raises(InputError, match=r"r3d\.R3D: .*four stages"):
        build(R3D, {"layers": [1, 1]})


def test_the_own_layout_is_always_there():
    assert naming(R3D, "intravid")("stem.0.weight") == "stem.0.weight"
    assert next(iter(layouts(R3D))) == "intravid"
