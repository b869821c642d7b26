"""Every backbone comes in from every layout that it was published in, saved as its program saves."""

import pkgutil

import pytest
import torch

import models.backbones
from data_process.errors import InputError
from models.weights.architecture import build, find_kind, layout_settings, layouts, naming
from models.weights.card import ClipInput
from models.weights.copies import second_name
from models.weights.imported import find_backbone, take
from tests.models.weights.saved_files import HEADS, PREFIXES, published_state, saved_as

NAMES = [one.name for one in pkgutil.iter_modules(models.backbones.__path__) if not one.name.startswith("_")]
PUBLISHED = [(name, layout) for name in NAMES for layout in layouts(find_kind(name))]
SMALL = {"width": 4}


def save(path, name, layout, **settings):
    """A file of a small backbone; the backbone that it holds."""
    kind = find_kind(name)
    backbone = build(kind, {**layout_settings(kind, layout), **SMALL, **settings})
    to_name = naming(kind, layout)
    state = published_state(backbone, to_name)
    torch.save(saved_as(layout, state, published_state(backbone, to_name, salt="other.")), path)
    backbone.load_state_dict({key: state[to_name(key)] for key in backbone.state_dict()})
    return backbone


@pytest.mark.parametrize(("name", "layout"), PUBLISHED, ids=[f"{name}-{layout}" for name, layout in PUBLISHED])
def test_every_layout_comes_in_whole_and_gives_its_features(tmp_path, name, layout):
    path = tmp_path / "epoch.pth"
    saved = save(path, name, layout).eval()
    found = find_backbone(path, find_kind(name), SMALL)
    match = found.match
    assert layout in (match.place.layout, *match.place.alike)
    assert (match.missing, match.counters, match.unexpected, dict(match.misshapen)) == ((), (), (), {})
    groups = {key.removeprefix("module.").removeprefix("online_net.").split(".")[0] for key in HEADS[layout]}
    assert groups <= set(match.beside)
    backbone = take(found).backbone.eval()
    for key, value in saved.state_dict().items():
        assert torch.equal(backbone.state_dict()[key], value), key
    clips = torch.rand(1, 3, max(8, saved.min_frames), max(32, saved.min_size), max(32, saved.min_size))
    with torch.no_grad():
        assert torch.equal(backbone(clips), saved(clips))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_without_one_layer_is_refused_and_told(tmp_path, name):
    kind = find_kind(name)
    layout = list(layouts(kind))[-1]
    path = tmp_path / "partial.pth"
    backbone = save(path, name, layout)
    content = torch.load(path, weights_only=False)
    holder = content if layout == "torchvision" else next(iter(v for v in content.values() if is_state(v)))
    absent = naming(kind, layout)(list(backbone.state_dict())[-2])
    for name in (absent, second_name(absent)):
        holder.pop(f"{PREFIXES.get(layout, '')}{name}", None)
    torch.save(content, path)
    found = find_backbone(path, kind, SMALL)
    assert found.match.missing == (absent,)
    with pytest.raises(InputError, match=r"not a whole backbone.*missing 1 .*unexpected 0; mis-shaped 0.*--allow-part"):
        take(found)
    weights = take(found, allow_partial=True)
    assert weights.provenance["not_loaded"] == [absent]


def is_state(value):
    return isinstance(value, dict) and any(key.endswith("running_mean") for key in value if isinstance(key, str))


def test_a_deeper_network_is_refused_with_what_it_has_more(tmp_path):
    path = tmp_path / "deep.pth"
    save(path, "r3d", "iic", layers=(1, 1, 1, 2))
    found = find_backbone(path, find_kind("r3d"), SMALL)
    assert found.match.missing == ()
    assert all(name.startswith("conv5.blocks.0.") for name in found.match.unexpected)
    with pytest.raises(InputError, match=r"unexpected \d+ \(conv5\.blocks\.0"):
        take(found)
    whole = find_backbone(path, find_kind("r3d"), {**SMALL, "layers": [1, 1, 1, 2]})
    assert take(whole).settings == {"layers": [1, 1, 1, 2], "width": 4}


def test_another_width_is_refused_with_both_shapes(tmp_path):
    path = tmp_path / "wide.pth"
    save(path, "r3d", "iic")
    found = find_backbone(path, find_kind("r3d"), {"width": 8})
    assert found.match.misshapen["bn1.weight"] == ((4,), (8,))
    with pytest.raises(InputError, match=r"bn1\.weight \[4\] instead of \[8\]"):
        take(found)


def test_weights_of_something_else_are_refused_with_some_of_their_names(tmp_path):
    path = tmp_path / "bert.pth"
    torch.save({"model": {f"encoder.{i}.query": torch.ones(2) for i in range(5)}}, path)
    with pytest.raises(InputError, match=r"no.* name of .*R3D.*intravid, iic.*encoder\.0\.query.*\.\.\. \(5 names\)"):
        find_backbone(path, find_kind("r3d"), SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_network_is_recognised(tmp_path, name):
    kind, path = find_kind(name), tmp_path / "whole.pth"
    torch.save({"state_dict": {f"module.{key}": torch.zeros(one.shape) for key, one in shapes(kind).items()}}, path)
    other = find_kind("r3d" if name != "r3d" else NAMES[0]) if len(NAMES) > 1 else kind
    settings = SMALL if other is not kind else {"width": 8}
    with pytest.raises(InputError, match=rf"names are those of --backbone (\w+ or )*{name}\b"):
        take(find_backbone(path, other, settings))


def shapes(kind):
    """The published names with shapes of the network in its default settings."""
    with torch.device("meta"):
        state = kind().state_dict()
    to_name = list(layouts(kind).values())[-1]
    return {to_name(key): one for key, one in state.items()}


def test_where_weights_come_from_is_kept(tmp_path):
    path = tmp_path / "ckpt.pth"
    save(path, "r3d", "iic")
    weights = take(find_backbone(path, find_kind("r3d"), SMALL), clips=ClipInput(16, 112))
    assert weights.clips == ClipInput(16, 112)
    assert weights.provenance["source"] == "ckpt.pth"
    assert len(weights.provenance["source_sha256"]) == 64
    assert weights.provenance["found"]["entry"] == "model"
    assert "not_loaded" not in weights.provenance


def test_the_global_generator_stays_as_it_was(tmp_path):
    path = tmp_path / "ckpt.pth"
    save(path, "r3d", "iic")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = take(find_backbone(path, find_kind("r3d"), SMALL))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.backbone.training
