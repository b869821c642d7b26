"""`intravid synth`: what it writes, says and refuses."""

import pytest

from launch.cli import main


def test_it_writes_the_set_says_how_to_go_on_and_takes_up_an_earlier_run(tmp_path, capsys):
    command = ["synth", str(tmp_path / "motion"), "--videos", "5", "--size", "32", "--frames", "4", "--jobs", "2"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "5 training and 2 test videos; next: intravid build" in first
    assert len(list((tmp_path / "motion").rglob("*.mp4"))) == 7
    assert main(command) == 0
    assert "7 of them from an earlier run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--level", "easy"], "--level takes plain, default, medium, hard"),
        (["--size", "31"], "--size"),
        (["--videos", "-3"], "--videos"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_a_wrong_option_ends_with_status_2_and_one_paragraph(tmp_path, capsys, words, told):
    assert main(["synth", str(tmp_path / "motion"), *words]) == 2
    printed = capsys.readouterr().err
    assert told in printed
    assert printed.count("\n") == 1


def test_another_seed_in_the_same_folder_ends_with_status_2(tmp_path, capsys):
    command = ["synth", str(tmp_path), "--videos", "1", "--size", "32", "--frames", "2"]
    assert main(command) == 0
    assert main([*command, "--seed", "9"]) == 2
    assert "seed 0 (now 9)" in capsys.readouterr().err
