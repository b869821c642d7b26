"""Copies of datasets: whole or absent, once, and read without their source."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data_process import stage as stage_module
from data_process.data_config import DataConfig
from data_process.errors import InputError, RunError
from data_process.shard_writer import list_shards, write_dataset
from data_process.shards import ShardSet
from data_process.stage import stage, staged_name
from launch.cli import main
from tests.sample_videos import jpegs, small_dataset

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path):
    root = small_dataset(tmp_path / "data", videos=9, videos_per_shard=2)
    (root / "plan.json").write_text('{"shards": 5, "classes": ["a", "b"]}')
    return root


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_a_copy_is_equal_and_copied_once(root, tmp_path):
    copied = stage(root, tmp_path / "copy")
    assert copied == sum(path.stat().st_size for path in root.iterdir())
    assert files(tmp_path / "copy") == files(root)
    assert stage(root, tmp_path / "copy") == 0


def test_a_copy_is_read_when_its_source_is_gone(root, tmp_path):
    config = DataConfig(root=str(root), stage=str(tmp_path / "local"))
    before = [record.id for record in config.open()]
    shutil.rmtree(root)
    videos = config.open()
    assert [record.id for record in videos] == before
    assert videos.read_frames(0, [0]).units
    assert str(tmp_path / "local") in videos.name


def test_a_copy_that_was_cut_off_goes_on(root, tmp_path, monkeypatch):
    real, done = stage_module._copy, []

    def fails_at_the_third(source, copy):
        if len(done) == 2:
            raise OSError("cut off")
        done.append(copy.name)
        return real(source, copy)

    monkeypatch.setattr(stage_module, "_THREADS", 1)
    monkeypatch.setattr(stage_module, "_copy", fails_at_the_third)
    with pytest.raises(OSError, match="cut off"):
        stage(root, tmp_path / "copy")
    assert not (tmp_path / "copy" / "index.json").exists(), "a reader would take it for a whole dataset"
    monkeypatch.setattr(stage_module, "_copy", real)
    assert stage(root, tmp_path / "copy") < sum(path.stat().st_size for path in root.iterdir())
    assert files(tmp_path / "copy") == files(root)


def test_shards_that_changed_are_copied_again_and_old_ones_leave(root, tmp_path):
    stage(root, tmp_path / "copy")
    shutil.rmtree(root)
    write_dataset(root, [({"id": "new", "width": 40, "height": 32}, jpegs(5))])
    assert stage(root, tmp_path / "copy") > 0
    assert [record.id for record in ShardSet(tmp_path / "copy")] == ["new"]
    assert sorted(list_shards(tmp_path / "copy")) == [0]


def test_threads_and_processes_that_ask_at_once_copy_once(root, tmp_path, monkeypatch):
    real, copied = stage_module._copy, []

    def counting(source, copy):
        copied.append(copy.name)
        return real(source, copy)

    monkeypatch.setattr(stage_module, "_copy", counting)
    threads = [threading.Thread(target=stage, args=(root, tmp_path / "copy")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(copied) == sorted(path.name for path in root.iterdir())
    words = [sys.executable, "-m", "launch", "stage", str(root), str(tmp_path / "other")]
    ran = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [one.communicate(timeout=60)[0] for one in ran]
    assert sum("MB copied" in one for one in told) == 1
    assert sum("nothing had to be copied" in one for one in told) == 2


def test_a_disk_that_gives_back_other_bytes_is_told(root, tmp_path, monkeypatch):
    real = os.fsync

    def spoils(fd):
        real(fd)
        path = os.readlink(f"/proc/self/fd/{fd}")
        if ".tmp." in path:
            with open(path, "r+b") as file:
                file.seek(100)
                file.write(b"spoilt")

    monkeypatch.setattr(stage_module.os, "fsync", spoils)
    with pytest.raises(RunError, match="differs from"):
        stage(root, tmp_path / "copy")


def test_copies_that_cannot_be_are_refused(root, tmp_path, monkeypatch, capsys):
    with pytest.raises(InputError, match="is the dataset itself"):
        stage(root, root)
    assert main(["stage", str(tmp_path / "nowhere"), str(tmp_path / "copy")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(stage_module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"0\.00 GB free"):
        stage(root, tmp_path / "copy")


def test_names_of_copies_tell_datasets_of_one_name_apart(tmp_path):
    assert staged_name(tmp_path / "a" / "shards") != staged_name(tmp_path / "b" / "shards")
    assert staged_name(tmp_path / "a" / "shards").startswith("shards-")
