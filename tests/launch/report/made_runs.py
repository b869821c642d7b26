"""Runs that are made up, and tables read back from elements."""

from launch.report.runs import RunFolder
from launch.results import Results
from tests.launch.runs import ROOT


def run_with(tables, *, step=480, settings=None):
    log = [{"step": step, "epoch": 1, "losses": {"total": 1.0}}]
    return RunFolder(ROOT, "runs/x", 0, settings or {}, "", log, tables)


def results_of(step, rows, classes=4):
    return Results(f"step {step}", "set", "train", 40, "test", 20, classes, {}, rows)


def cells(elements, *, table):
    """Texts of the rows of a table."""
    tables = [one for element in elements for one in element.iter("table")]
    return [["".join(cell.itertext()) for cell in row] for row in tables[table].iter("tr")]
