import json
from importlib.util import find_spec

from benchmarks import loader
from benchmarks.stages import STAGES, told


def test_every_contender_of_both_recipes_gives_clips(tmp_path):
    sizes = {"height": 48, "width": 64, "batch": 2, "steps": 1, "rounds": 1, "videos": 4, "frames": 20}
    words = ["--threads", "1", "2", *(word for name, size in sizes.items() for word in (f"--{name}", str(size)))]
    assert loader.main([*words, "--json", str(tmp_path / "loader.json")]) == 0
    rows = json.loads((tmp_path / "loader.json").read_text())["rows"]
    names = [loader.PLAIN, "list in LMDB, Pillow"]
    names += [f"mp4, {name}" for name, package in (("decord", "decord"), ("PyAV", "av")) if find_spec(package)]
    names += [f"stage: {name}" for name in STAGES]
    names += ["host, 1 thread", "host, 2 threads"]
    if find_spec("nvidia") and find_spec("nvidia.dali"):
        names += ["dali, 1 thread", "dali, 2 threads"]
    processes = "2 processes of host, 1 thread"
    assert list(rows) == [f"{recipe}: {name}" for recipe in loader.RECIPES for name in [*names, processes]]
    alone = [rows.pop(f"{recipe}: {processes}") for recipe in loader.RECIPES]
    assert all(row["clips/s"] > 0 for row in alone)
    assert all(row["cpu ms/clip"] > 0 and row["clips/s"] > 0 and row["KB/clip"] > 0 for row in rows.values())
    for recipe in loader.RECIPES:
        plain = rows[f"{recipe}: {loader.PLAIN}"]
        assert plain["cpu, Pillow / this"] == 1
        ours = rows[f"{recipe}: host, 1 thread"]
        assert ours["cpu, Pillow / this"] == plain["cpu ms/clip"] / ours["cpu ms/clip"]


def test_the_largest_stage_is_named():
    text = told([0.1, 1.2, 1.5], 1.7)
    assert "decode JPEGs 1.10" in text
    assert "normalise and hand over 0.20" in text
    assert text.endswith("the limiting stage is: decode JPEGs")
