"""Settings that must stand before torch is imported, and folders that tests may use."""

import os
import signal
from pathlib import Path

import pytest

# Tests run side by side: threads that spin while they wait would take the cores from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "2")

# What ignores a signal hands that on to its processes: a shell has what it starts in the background ignore Ctrl-C,
# nohup SIGHUP. Processes that tests start have to hear both; a handler is not handed on.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda number, frame: None)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_clips(repository: Path) -> Path:
    """Real videos beside the repository; a test that needs them skips where they are not."""
    folder = repository.parent / "shared" / "data" / "clips"
    if not folder.is_dir():
        pytest.skip("the folder of real clips is not beside the repository")
    return folder
