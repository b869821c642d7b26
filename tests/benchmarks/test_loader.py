import json
from importlib.util import find_spec

from benchmarks import loader


def test_every_contender_of_both_recipes_gives_clips(tmp_path):
    words = [
        "--height",
        "48",
        "--width",
        "64",
        "--threads",
        "1",
        "--batch",
        "2",
        "--steps",
        "1",
        "--rounds",
        "1",
        "--videos",
        "4",
        "--frames",
        "20",
    ]
    assert loader.main([*words, "--json", str(tmp_path / "loader.json")]) == 0
    rows = json.loads((tmp_path / "loader.json").read_text())["rows"]
    names = [loader.PLAIN, "list in LMDB, Pillow"]
    names += [f"mp4, {name}" for name, package in (("decord", "decord"), ("PyAV", "av")) if find_spec(package)]
    names.append("host, 1 thread")
    if find_spec("nvidia") and find_spec("nvidia.dali"):
        names.append("dali, 1 thread")
    assert list(rows) == [f"{recipe}: {name}" for recipe in loader.RECIPES for name in names]
    assert all(row["cpu ms/clip"] > 0 and row["clips/s"] > 0 for row in rows.values())
    for recipe in loader.RECIPES:
        plain = rows[f"{recipe}: {loader.PLAIN}"]
        assert plain["cpu, Pillow / this"] == 1
        ours = rows[f"{recipe}: host, 1 thread"]
        assert ours["cpu, Pillow / this"] == plain["cpu ms/clip"] / ours["cpu ms/clip"]
