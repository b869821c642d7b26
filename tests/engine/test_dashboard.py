import io
import logging
import re
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from engine.dashboard import Dashboard, show_training
from engine.log import read_log
from tests.engine.test_log import record
from tests.engine.tiny import run_tiny


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Standard error as a terminal of 100 columns that knows colours."""
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "50"}.items():
        monkeypatch.setenv(name, value)

    def begin():
        # In the test's own time: pytest puts standard error back between a fixture and its test.
        made = Terminal()
        monkeypatch.setattr(sys, "stderr", made)
        return made

    return begin


def words(text):
    """What can be read, without the codes that move and colour it."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def shown(*records, done=0):
    """The last picture after some steps with these records."""
    console = Console(file=Terminal(), force_terminal=True, width=110, height=60, color_system=None)
    dashboard = Dashboard(100, done=done, console=console)
    with dashboard.running():
        for one in records:
            dashboard.step_done()
            dashboard.show(one)
    return words(console.file.getvalue()).rpartition("training")[2]


def test_it_shows_steps_losses_metrics_and_speed():
    metrics = {"found": 0.25, "spread": None}
    text = shown(replace(record(7), losses={"a": 1.5, "total": 2.5}, metrics=metrics), done=41)
    assert "42/100" in text
    assert "0.5 steps/s" in text  # two seconds a step
    for name, value in {"a": "1.5", "total": "2.5", "found": "0.25", "spread": "not finite", "lr": "0.3333"}.items():
        assert re.search(rf"\b{name} +{value}", text), name
    assert re.search(r"waiting for data +25\.0%", text)
    assert re.search(r"epoch +1\b", text)
    assert "left" in text


@pytest.mark.parametrize(
    ("before", "now", "arrow"), [(2.0, 1.0, "\N{DOWNWARDS ARROW}"), (1.0, 2.0, "\N{UPWARDS ARROW}")]
)
def test_a_loss_tells_where_it_goes(before, now, arrow):
    text = shown(*(replace(record(1), losses={"total": value}) for value in (before, now)))
    assert re.search(rf"total +{now:.0f} {arrow}", text)


def test_what_was_evaluated_last_stays_in_sight():
    evaluated = replace(record(1), evals={"val_accuracy": 0.625, "val_loss": None})
    text = shown(evaluated, record(2))
    assert re.search(r"val_accuracy +0\.625", text)
    assert re.search(r"val_loss +not finite", text)
    assert "evaluation" not in shown(record(1))


def test_many_metrics_leave_room():
    text = shown(replace(record(1), metrics={f"metric_{number:02d}": 1.0 for number in range(40)}))
    assert "metric_11" in text
    assert "metric_12" not in text
    assert "28 more in log.jsonl" in text


def test_a_run_on_a_terminal_has_a_dashboard_and_the_same_log(tmp_path, terminal):
    screen = terminal()
    run_tiny(tmp_path / "seen", steps=6)
    text = words(screen.getvalue())
    assert "6/6" in text
    last = read_log(tmp_path / "seen" / "log.jsonl")[-1]
    assert f"{last['losses']['total']:.4g}" in text
    assert f"{last['metrics']['spread']:.4g}" in text


def test_messages_appear_above_the_dashboard_and_go_where_they_went_afterwards(terminal):
    screen = terminal()
    handler = logging.StreamHandler(screen)
    logging.getLogger().addHandler(handler)
    try:
        with show_training(3) as display:
            display.step_done()
            logging.getLogger("test").warning("a frame was mended")
            assert handler.stream is not screen
        assert handler.stream is screen
    finally:
        logging.getLogger().removeHandler(handler)
    assert "a frame was mended" in words(screen.getvalue())


def test_a_log_gets_plain_lines(tmp_path, capsys):
    run_tiny(tmp_path, steps=6)
    said = capsys.readouterr().err
    last = read_log(tmp_path / "log.jsonl")[-1]
    (line,) = [one for one in said.splitlines() if one.startswith("training: 6/6 steps")]
    assert f"loss {last['losses']['total']:.4g}" in line
    assert "waiting 0%" in line
    assert "\x1b" not in said


def test_the_display_is_left_in_order_when_training_fails(terminal):
    screen = terminal()

    def fail():
        with show_training(3) as display:
            display.step_done()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    hidden, back = screen.getvalue().rfind("\x1b[?25l"), screen.getvalue().rfind("\x1b[?25h")
    assert 0 <= hidden < back  # the cursor
    assert sys.stderr is screen


def test_standard_output_stays_where_it_goes(terminal, capsys):
    screen = terminal()
    with show_training(3) as display:
        display.step_done()
        print("a result for a pipe")
    assert capsys.readouterr().out == "a result for a pipe\n"
    assert "a result" not in screen.getvalue()
