import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data_process import killable
from data_process.killable import run

ROOT = Path(__file__).resolve().parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")


def is_running(pid):
    """Whether a process goes on five seconds from now."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z":
                return False
        except (ProcessLookupError, FileNotFoundError):
            return False
        time.sleep(0.05)
    return True


def wait_for_words(path):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and (words := path.read_text().split()):
            return words
        time.sleep(0.01)
    pytest.fail(f"nothing was written to {path}")


def test_what_runs_beyond_its_limit_is_killed_with_its_children(tmp_path):
    pids = tmp_path / "pids"
    start = time.monotonic()
    finished = run(["bash", "-c", f"sleep 77 & echo $! $$ > {pids}; wait"], limit_s=0.5)
    assert finished.status is None
    assert time.monotonic() - start < 10
    for pid in map(int, pids.read_text().split()):
        assert not is_running(pid)


def test_messages_are_free_of_addresses():
    text = "[h264 @ 0x55d0c0ffee] bad block\n\n  last words\n"
    finished = run(["bash", "-c", f"cat >&2 <<'END'\n{text}END"], limit_s=10)
    assert finished.messages == ("[h264] bad block", "last words")


def test_a_signal_is_a_negative_status():
    assert run(["bash", "-c", "kill -SEGV $$"], limit_s=10).status == -11


def test_what_was_stopped_gives_no_result_and_nothing_starts_until_it_is_allowed(tmp_path):
    ended = []

    def wait():
        try:
            run(["bash", "-c", f"echo started > {tmp_path}/mark; sleep 77"], limit_s=60)
        except KeyboardInterrupt:
            ended.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    wait_for_words(tmp_path / "mark")
    asked = time.monotonic()
    killable.stop_all()
    try:
        thread.join(20)
        assert ended
        assert ended[0] - asked < 2
        with pytest.raises(KeyboardInterrupt):
            run(["true"], limit_s=10)
    finally:
        killable.allow()
    assert run(["true"], limit_s=10).status == 0


PARENT = """
import sys, threading
from data_process import killable
if sys.argv[1] == "without":
    killable._setpriv = lambda: None
words = ["bash", "-c", f"echo $$ > {sys.argv[2]}; trap '' TERM PIPE; while true; do sleep 0.1; done"]
thread = threading.Thread(target=killable.run, args=(words,), kwargs={"limit_s": 100})
thread.start()
"""


@LINUX
@pytest.mark.parametrize("setpriv", ["with", "without"])
def test_what_a_thread_started_dies_with_the_process_that_is_killed(tmp_path, setpriv):
    # It writes nothing and ignores what it can: only the kernel ends it.
    if setpriv == "with" and killable._setpriv() is None:
        pytest.skip("setpriv is not installed, or cannot do this")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, setpriv, str(tmp_path / "pid")], cwd=ROOT)
    try:
        (pid,) = wait_for_words(tmp_path / "pid")
    finally:
        parent.kill()
        parent.wait()
    assert not is_running(int(pid))


@LINUX
@pytest.mark.parametrize("setpriv", ["with", "without"])
def test_nothing_starts_where_the_parent_died_before_the_kernel_watched(tmp_path, monkeypatch, setpriv):
    if setpriv == "without":
        monkeypatch.setattr(killable, "_setpriv", lambda: None)
    words = [*killable._dies_with_its_parent(), "touch", str(tmp_path / "started")]
    # A shell between takes the place of whoever adopts the child of a dead process.
    subprocess.run(["bash", "-c", '"$@"; true', "bash", *words], check=True)
    assert not (tmp_path / "started").exists()
    subprocess.run(words, check=True)
    assert (tmp_path / "started").exists()


@LINUX
def test_a_setpriv_that_knows_nothing_of_this_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "setpriv").write_text("#!/bin/sh\necho unrecognized option >&2\nexit 1\n")
    (tmp_path / "setpriv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    killable._setpriv.cache_clear()
    try:
        assert killable._setpriv() is None
        assert run([sys.executable, "-c", "print(7)"], limit_s=20).output == b"7\n"
    finally:
        monkeypatch.undo()
        killable._setpriv.cache_clear()


def test_a_program_that_ended_is_not_killed_by_its_number(monkeypatch):
    process = subprocess.Popen(["true"])
    process.wait()
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("its number may belong to somebody else"))
    killable._kill(process)
    assert process.returncode == 0


def test_threads_that_wait_end_with_the_signal_handler_of_their_process(tmp_path):
    code = (
        "import signal, sys\nfrom data_process import killable\n"
        "signal.signal(signal.SIGTERM, lambda *_: killable.stop_all())\n"
        f"killable.run(['bash', '-c', 'echo on > {tmp_path}/mark; sleep 77'], limit_s=60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE)
    wait_for_words(tmp_path / "mark")
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=20)[1]
    assert b"KeyboardInterrupt" in errors
