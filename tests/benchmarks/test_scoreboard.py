import json
import sys

import pytest

from benchmarks.scoreboard import Goal, Scoreboard

BOARD = Scoreboard(
    "sample",
    "two things",
    ("ms", "MB"),
    {"ours": (1.25, 1234.5), "theirs": (20.0, None)},
    goals=(Goal("theirs / ours", 16.0, 20, at_most=False), Goal("memory", None, 64, at_most=True, unit=" MB")),
    remarks=("A remark.",),
)


def test_a_log_gets_aligned_columns(capsys):
    BOARD.publish(None)
    assert capsys.readouterr().out.splitlines() == [
        "sample: two things",
        "          ms     MB",
        "ours    1.25  1,234",
        "theirs    20      -",
        "",
        "ratio                     measured         target",
        "theirs / ours                  16x   at least 20x  MISSED",
        "memory         not measurable here  at most 64 MB",
        "A remark.",
    ]


def test_a_terminal_gets_the_same_words_in_frames(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    BOARD.publish(None)
    said = capsys.readouterr().out
    assert all(word in said for word in ("ours", "1,234", "MISSED", "at least 20x", "┃"))


def test_json_keeps_numbers_verdicts_and_the_machine(tmp_path, capsys):
    BOARD.publish(tmp_path / "board.json")
    told = json.loads((tmp_path / "board.json").read_text())
    assert told["rows"] == {"ours": {"ms": 1.25, "MB": 1234.5}, "theirs": {"ms": 20.0, "MB": None}}
    assert [goal["met"] for goal in told["goals"]] == [False, None]
    assert told["machine"]["cores"] >= 1
    assert "numpy" in told["machine"]["versions"]


def test_a_row_has_a_number_for_every_column():
    with pytest.raises(ValueError, match="ours: 1 numbers"):
        Scoreboard("sample", "", ("ms", "MB"), {"ours": (1.0,)})
