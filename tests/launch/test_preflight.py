import os
import shutil
from dataclasses import replace

import pytest

from data_process.data_config import DataConfig
from data_process.errors import InputError
from launch import preflight
from launch.cluster import ClusterConfig
from tests.sample_videos import small_dataset


@pytest.fixture
def expected(shards, tmp_path):
    return preflight.expectation(tmp_path / "run" / "slurm", data=DataConfig(root=str(shards)))


def refusal(expected, environ=()):
    with pytest.raises(InputError) as caught:
        preflight.check_node(expected, {"SLURMD_NODENAME": "gpu07", **dict(environ)})
    said = str(caught.value)
    assert said.startswith("node gpu07: ")
    return said


def test_a_machine_that_sees_what_the_submission_saw_passes(expected):
    preflight.check_node(expected, {})


def test_a_machine_without_the_run_folder_is_named(expected, tmp_path):
    os.remove(expected.token)
    assert "is not the folder that the submission wrote to" in refusal(expected)
    shutil.rmtree(tmp_path / "run")
    assert "the run folder is not there" in refusal(expected)


def test_a_machine_with_other_versions_is_named(expected):
    versions = {**expected.versions, "torch": "1.0", "nvidia-dali-cuda130": "2.2"}
    said = refusal(replace(expected, versions=versions))
    assert f"torch is {expected.versions['torch']}, was 1.0 at the submission" in said
    assert "nvidia-dali-cuda130 is not installed, was 2.2" in said or expected.versions["nvidia-dali-cuda130"]
    assert "numpy" not in said


def test_a_machine_that_does_not_see_the_shards_is_named(expected, tmp_path):
    said = refusal(replace(expected, data=DataConfig(root=str(tmp_path / "unmounted"))))
    assert "the shards cannot be opened" in said
    assert "unmounted" in said


def test_a_machine_that_sees_other_shards_is_named(expected, tmp_path):
    small_dataset(tmp_path / "other", videos=6)
    assert "holds other shards than at the submission" in refusal(
        replace(expected, data=DataConfig(root=str(tmp_path / "other")))
    )


def test_shards_that_an_earlier_stage_builds_are_not_looked_for_yet(tmp_path):
    data = DataConfig(root=str(tmp_path / "later"))
    seen = preflight.expectation(tmp_path / "slurm", data=data, built=[tmp_path / "later"])
    assert seen.digest == ""
    with pytest.raises(InputError, match="later"):
        preflight.expectation(tmp_path / "slurm", data=data)


@pytest.mark.parametrize(
    ("asked", "visible", "seen", "enough"),
    [(8, "", 8, True), (8, "", 7, False), (8, "3", 1, True), (2, "0,1", 1, False), (0, "", 0, True)],
)
def test_gpus_are_counted_against_what_the_process_was_given(monkeypatch, expected, asked, visible, seen, enough):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    wanted, environ = replace(expected, gpus=asked), {"CUDA_VISIBLE_DEVICES": visible}
    if enough:
        preflight.check_node(wanted, environ)
    else:
        assert f"torch sees {seen}" in refusal(wanted, environ)


def test_a_run_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the run folder .* cannot be written"):
        preflight.check_folder(tmp_path / "file" / "run", min_free_gb=0)


def test_a_full_file_system_is_refused(tmp_path, monkeypatch):
    gib = 2**30
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9 * gib, 8 * gib, gib))
    preflight.check_folder(tmp_path, min_free_gb=1)
    with pytest.raises(InputError, match=r"has 1\.0 GiB free, and the job needs 2\.0"):
        preflight.check_folder(tmp_path, min_free_gb=2)
    (tmp_path / "checkpoints").mkdir()
    with open(tmp_path / "checkpoints" / "step-000000001.pt", "wb") as file:
        file.truncate(3 * gib)  # a hole, not bytes
    with pytest.raises(InputError, match=r"needs 6\.0"):
        preflight.check_folder(tmp_path, min_free_gb=0)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return make


def test_an_unknown_partition_is_told_with_those_there_are(commands):
    commands("sinfo", "printf 'gpu\\ngpu\\ninteractive\\n'")
    preflight.check_partition("")
    preflight.check_partition("gpu,interactive")
    with pytest.raises(InputError, match=r"partition gpus .* has gpu, interactive; did you mean gpu\?"):
        preflight.check_partition("gpus")
    commands("sinfo", "exit 1")
    preflight.check_partition("gpus")  # left to sbatch


@pytest.mark.parametrize(
    "told",
    [
        "Batch job submission failed: Invalid account or account/partition combination specified",
        "Requested node configuration is not available",
    ],
)
def test_what_slurm_says_against_a_job_is_told_with_what_was_asked_for(commands, told):
    commands("sbatch", f"cat > /dev/null; echo 'sbatch: error: {told}' >&2; exit 1")
    cluster = ClusterConfig(nodes=2, gpus_per_node=9, account="nobody")
    with pytest.raises(InputError) as caught:
        preflight.check_script("#!/bin/bash\n", cluster)
    said = str(caught.value)
    assert f"SLURM refused the job: {told}" in said
    assert "2 machines, 1440 minutes, 9 GPUs on each, account nobody" in said
    assert "\n" not in said
