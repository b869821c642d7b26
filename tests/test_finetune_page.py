"""The commands of docs/finetune.md, run as they are written, and the recipes that it names."""

import re

import pytest

from engine.log import read_log
from tests.launch.recipes import FINETUNE
from tests.test_docs import ROOT, commands, put_programs, run_all

PAGE = ROOT / "docs" / "finetune.md"


@pytest.mark.slow
def test_every_command_about_fine_tuning_does_what_it_says(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    put_programs(tmp_path)
    lines = commands(PAGE.name)
    assert len(lines) == 8
    run_all(lines, tmp_path)
    runs = tmp_path / "runs"
    found = {name: read_log(runs / name / "log.jsonl") for name in ("iic", "tuned", "few")}
    assert all("knn_accuracy" in record["evals"] for record in found["iic"] if record["evals"])
    assert all(records[-1]["step"] == 30 and records[-1]["evals"] for records in found.values())
    assert (runs / "tuned" / "eval-test.json").is_file()
    assert len((runs / "few" / "trained-on.txt").read_text().splitlines()) < 24


def names(pattern):
    """Names that a pattern with braces stands for."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    return [name for one in found[1].split(",") for name in names(pattern.replace(found[0], one, 1))]


def test_the_page_names_every_recipe_and_no_other():
    told = re.findall(r"^\| `(finetune_[\w{},]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(name for pattern in told for name in names(pattern)) == [path.stem for path in FINETUNE]
