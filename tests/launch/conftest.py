"""Small shards, of frames and of their flow, for runs of the command, and logging put back as it was."""

import logging

import pytest

from tests.sample_videos import small_dataset


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """16 training and 8 test videos of two classes."""
    folder = tmp_path_factory.mktemp("shards")
    small_dataset(folder, videos=24)
    return folder


@pytest.fixture(scope="session")
def flow_shards(tmp_path_factory):
    """Optical flow of the videos of `shards`."""
    folder = tmp_path_factory.mktemp("flow")
    small_dataset(folder, videos=24, flow=True)
    return folder


@pytest.fixture(autouse=True)
def _logging_as_before():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
