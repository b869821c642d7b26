"""Run folders as they are read: names, numbers, and folders that are none."""

import pytest

from data_process.errors import InputError
from launch.report.runs import read_runs


@pytest.mark.parametrize(
    ("folders", "names"), [(("a/x", "b/x"), ["a/x", "b/x"]), (("r/a/x", "s/a/x"), ["r/a/x", "s/a/x"])]
)
def test_runs_are_told_apart_by_the_ends_of_their_paths(tmp_path, folders, names):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "log.jsonl").write_text("")
    assert [run.name for run in read_runs([tmp_path / folder for folder in folders])] == names


def test_values_that_are_not_finite_are_left_out(tmp_path):
    lines = [
        '{"step": 1, "epoch": 0, "losses": {"total": null}, "lr": 0.5}',
        '{"step": 2, "epoch": 0, "losses": {"total": 3.0}}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    (run,) = read_runs([tmp_path])
    assert run.scalars() == {"losses.total": [(2, 3.0)], "lr": [(1, 0.5)]}


@pytest.mark.parametrize("text", ["- a", "hello", "3"])
def test_a_configuration_without_settings_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match="holds no settings"):
        read_runs([tmp_path])
