"""Curves: which numbers stand together, and what is said of them."""

import re
from dataclasses import replace
from pathlib import Path

import models as models_package
from launch.report.curves import curves
from launch.report.meanings import MEANINGS
from tests.launch.report.made_runs import run_with
from tests.launch.runs import ROOT


def logged(*records):
    return replace(run_with({}), log=[{"epoch": 0, **record} for record in records])


def titles(made):
    """Heading to the charts below it."""
    found, last = {}, ""
    for one in made:
        if one.tag == "h3":
            last = one.text
        for figure in one.iter("figure"):
            found.setdefault(last, []).append(figure[0].text.strip())
    return found


def test_what_is_measured_on_the_way_has_curves_of_its_own():
    records = [
        {"step": 1, "losses": {"total": 2.0}, "metrics": {"found": 0.5, "feature_spread": 0.9}},
        {"step": 2, "evals": {"knn": 20.0, "val_accuracy": 0.1}, "other": {"loss": 2.0}},
        {"step": 4, "losses": {"total": 1.0}, "metrics": {"found": 0.6, "feature_spread": 0.8}},
        {"step": 4, "evals": {"knn": 30.0, "val_accuracy": 0.2}, "other": {"loss": 1.5}},
    ]
    assert titles(curves([logged(*records)])) == {
        "Losses and learning rate": ["total loss"],
        "Judged while training": ["knn", "val accuracy", "other: loss"],
        "Pretext accuracies": ["found"],
        "Other numbers of the method": ["feature spread"],
    }


def test_a_chart_says_what_its_numbers_mean_where_that_is_known():
    records = [
        {"step": step, "metrics": {"view1_found": 0.5, "odd_number": 1.0}, "evals": {"val_accuracy": 0.5}}
        for step in (1, 2)
    ]
    told = {
        figure[0].text.strip(): [one.text for one in figure.iter("div")]
        for one in curves([logged(*records)])
        for figure in one.iter("figure")
    }
    found = ["share whose positive is the nearest of all candidates"]
    assert told == {"view1 found": found, "odd number": [], "val accuracy": []}


def test_meanings_are_of_numbers_that_methods_log():
    models = Path(models_package.__file__).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in models.rglob("*.py"))
    engine = (ROOT / "engine" / "log.py").read_text(encoding="utf-8")
    assert [name for name in MEANINGS if not re.search(rf"{name}\b", source + engine)] == []
