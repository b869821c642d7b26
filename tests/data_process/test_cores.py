"""A process uses the cores that it is given."""

import pytest

from data_process import cores as cores_module
from data_process.cores import available_cores


@pytest.mark.parametrize(("quota", "cores"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 6)])
def test_the_quota_of_a_container_counts(tmp_path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(cores_module, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(cores_module.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert available_cores() == cores
