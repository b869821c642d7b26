"""The pages about evaluation agree with the recipes, the published numbers and what was measured."""

import re
import shlex

import pytest

from launch.cli import COMMANDS
from launch.report.published import PUBLISHED
from tests.test_docs import ROOT

RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
EVALUATION = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d+\.\d")


def head(path):
    """The head comment of a recipe as one line."""
    lines = re.match(r"(?:#.*\n)+", path.read_text(encoding="utf-8"))[0].splitlines()
    return " ".join(line.lstrip("# ") for line in lines)


def table(title):
    """Rows of the table of a section, column to cell."""
    section = RESULTS.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    names, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [dict(zip(names, row, strict=True)) for row in rows]


PAPERS = [
    (title, row) for title in ("Retrieval on UCF101", "Retrieval on HMDB51", "Fine-tuned") for row in table(title)
]


def recipe_of(row):
    return re.search(r"`(\w+)`", row["recipe"])[1]


def named(one):
    title, row = one
    return f"{title} {row.get('on', '')} {row['recipe']}".replace("`", "").replace(" ", "-")


@pytest.mark.parametrize("one", PAPERS, ids=named)
def test_a_published_number_stands_in_the_head_of_its_recipes(one):
    _, row = one
    published = row["published"]
    if published == "not published":
        return
    own = ROOT / "configs" / "pretrain" / f"{recipe_of(row)}.yaml"
    heads = head(own) + "".join(head(path) for path in named_recipes(row) if path.is_file())
    told = published.partition("(")[0].strip()
    assert told.replace(" / ", "/") in heads.replace(" / ", "/"), told
    if "mean of three splits" in published:
        assert "mean of three splits" in head(own)


def command_of(row):
    return row["the command that fills it"].strip("`")


def named_recipes(row):
    """Recipes that the command of a row names."""
    return [ROOT / word for word in shlex.split(command_of(row)) if word.startswith("configs/")]


@pytest.mark.parametrize("one", PAPERS, ids=named)
def test_every_open_cell_has_a_command_of_files_and_runs_that_there_are(one):
    _, row = one
    assert row["here"] == "open", "what was measured is to be compared with a file here"
    parts = [shlex.split(part) for part in command_of(row).split(" && ")]
    fine_tunes = bool(list((ROOT / "configs" / "eval").glob("finetune_*.yaml")))
    for words in parts:
        assert words[0] == "intravid"
        assert words[1] in COMMANDS or (words[1] == "finetune" and not fine_tunes)
    for path in named_recipes(row):
        assert path.is_file() or (path.name.startswith("finetune_") and not fine_tunes), path
    weights = "none" if "scratch" in row["recipe"] else re.search(r"--run_dir\s+(\S+)", head(
        ROOT / "configs" / "pretrain" / f"{recipe_of(row)}.yaml"
    ))[1]  # fmt: skip
    judged = parts[0][parts[0].index("--weights") + 1] if "--weights" in parts[0] else parts[0][2]
    assert judged == weights or ("random" in row["recipe"] and judged == f"configs/pretrain/{recipe_of(row)}.yaml")


def test_no_two_rows_share_a_run_folder():
    """A run folder with checkpoints would be resumed."""
    folders = [
        command_of(row).partition("--run_dir ")[2].split()[0] for _, row in PAPERS if "--run_dir" in command_of(row)
    ]
    assert len(folders) == len(set(folders)) > 20


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.recipe)
def test_every_published_number_of_the_report_is_on_the_page(one):
    rows = {
        (title, row.get("on")): row for title, row in PAPERS if recipe_of(row) == one.recipe and row["recipe"][0] == "`"
    }
    if one.retrieval:
        told = rows["Retrieval on UCF101", None]["published"]
        assert tuple(map(float, NUMBER.findall(told))) == one.retrieval
    for data, value in zip(("UCF101", "HMDB51"), one.finetuned, strict=True):
        if value is not None:
            assert float(NUMBER.findall(rows["Fine-tuned", data]["published"])[0]) == value


def test_every_recipe_of_pretraining_is_on_the_page_or_said_to_have_no_number():
    prose = "R3D, R(2+1)D, C3D and a tenth of Kinetics"
    assert prose in RESULTS
    on_page = {recipe_of(row) for _, row in PAPERS}
    others = {path.stem for path in (ROOT / "configs" / "pretrain").glob("*.yaml")} - on_page
    assert others == {"vtdl_r3d_ucf101", "vtdl_r21d_ucf101", "vtdl_c3d_ucf101", "vtdl_i3d_k400_tenth"}
    for one in others:
        assert re.search(r"[Nn]o number", head(ROOT / "configs" / "pretrain" / f"{one}.yaml"))


def test_what_was_measured_stands_in_the_record_of_the_benchmark():
    record = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in record.splitlines() if line[:2] == "| "]
    names = {"supervised": "trained with labels"}
    rows = table("The motion set, measured here")
    assert len(rows) == 9
    for row in rows:
        recipe = recipe_of(row)
        assert (ROOT / "configs" / "motion" / f"{recipe}.yaml").is_file()
        # Other seeds and earlier forms of a recipe stand below it.
        name = names.get(recipe, recipe)
        told = next(one for one in lines if len(one) == 10 and one[0].lower().partition(",")[0] == name)
        assert row["command"] == f"`intravid bench motion --seeds 51 52 53 --recipes {recipe}`"
        is_random = row["recipe"].startswith("random")
        assert [row["kNN"], row["linear probe"]] == ([told[1], told[4]] if is_random else [told[2], told[5]])
        if not is_random:
            assert [row["retrieval, top-1"], row["kNN of one frame"]] == told[7:9]


@pytest.mark.parametrize(
    "recipe",
    sorted(path for path in (ROOT / "configs" / "eval").glob("*.yaml") if not path.stem.startswith("finetune")),
    ids=lambda path: path.stem,
)
def test_the_page_of_evaluation_has_every_protocol_with_its_command(recipe):
    command = re.search(r"Command:\s+(.*?)\s+Expect:", head(recipe))[1]
    assert f"    {command}\n" in EVALUATION


def test_the_page_of_evaluation_names_every_sampling_and_modality():
    from typing import get_args

    from engine.features import Modality
    from pipelines.evaluation import Sampling

    for name in (*get_args(Sampling), *get_args(Modality)):
        assert f"`{name}`" in EVALUATION, name
