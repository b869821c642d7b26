"""What a job needs is looked at twice: before it is queued, and by every machine of it at its start."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from data_process.data_config import DataConfig
from data_process.errors import InputError
from launch.cluster import ClusterConfig

PACKAGES = (
    "torch", "numpy", "lmdb", "msgpack", "simplejpeg", "pillow", "safetensors", "jsonargparse", "submitit",
    "nvidia-dali-cuda130", "nvidia-dali-cuda120",
)  # fmt: skip
"""Whose versions must be the same on all machines: they decide pixels, weights and files."""

_TOKENS = "seen-by"


@dataclass(frozen=True)
class Expected:
    """What the machine of the submission saw, and every machine of the job has to see.

    Attributes:
        token: file in the run folder, written at the submission.
        versions: package to version; empty for one that is not installed.
        gpus: on each machine; 0 where the run does not need them.
        digest: of the training set; empty where it is built by an earlier job of the same chain.
        data: which videos; None for a command that reads none.
    """

    token: str
    versions: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    digest: str = ""
    data: DataConfig | None = None


def installed_versions() -> dict[str, str]:
    """Package to version, of Python too; empty for what is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def check_folder(folder: Path, *, min_free_gb: float) -> None:
    """Make a run folder and check that it can be written and has room.

    Raises:
        InputError: where it cannot, or has less than it needs: `min_free_gb`, and room for another checkpoint.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".written-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"the run folder {folder} cannot be written ({error.strerror}); give one on storage that you may write to "
            "and that all machines of the job share, with --run_dir"
        ) from None
    largest = max((path.stat().st_size for path in (folder / "checkpoints").glob("step-*.pt")), default=0)
    needed, free = max(min_free_gb * 2**30, 2 * largest), shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"the file system of {folder} has {free / 2**30:.1f} GiB free, and the job needs {needed / 2**30:.1f} "
            "(launch.min_free_gb, and two checkpoints where some are there); make room, or take another folder"
        )


def check_partition(partition: str) -> None:
    """Refuse a partition that SLURM does not know; one whose name is empty or that sinfo cannot tell is left to sbatch.

    Raises:
        InputError: naming those that exist.
    """
    try:
        asked = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    known = sorted(set(asked.stdout.split()))
    unknown = [name for name in partition.split(",") if name and name not in known]
    if asked.returncode or not known or not unknown:
        return
    near = get_close_matches(unknown[0], known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    raise InputError(
        f"partition {unknown[0]} is not known to this cluster, which has {', '.join(known)}{hint} Set --partition or "
        "launch.partition; nothing was queued"
    )


def check_script(text: str, cluster: ClusterConfig) -> None:
    """Let SLURM judge a script without queueing it: `sbatch --test-only`.

    Raises:
        InputError: with what it says against it, and what was asked for.
    """
    try:
        asked = subprocess.run(
            ["sbatch", "--test-only"], input=text, capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"sbatch does not answer ({error}); run `intravid submit` on a login node") from None
    if asked.returncode == 0:
        return
    said = "; ".join(line.removeprefix("sbatch: error: ") for line in asked.stderr.strip().splitlines())
    wanted = [f"{cluster.nodes} machines", f"{cluster.minutes} minutes"]
    wanted += [f"{cluster.gpus_per_node} GPUs on each"] if cluster.gpus_per_node else []
    wanted += [f"{cluster.mem_gb:g} GB on each"] if cluster.mem_gb else []
    named = ("partition", "account", "qos", "constraint")
    wanted += [f"{name} {getattr(cluster, name)}" for name in named if getattr(cluster, name)]
    raise InputError(
        f"SLURM refused the job: {' '.join(said.split())[-600:]}. Asked for: {', '.join(wanted)}; nothing was queued. "
        "`sinfo` lists partitions and their limits, `sacctmgr show assoc user=$USER` your accounts"
    )


def expectation(logs: Path, *, gpus: int = 0, data: DataConfig | None = None, built: Sequence[Path] = ()) -> Expected:
    """What the machines of a job are to see; leaves a token in `logs` and opens the data.

    Args:
        logs: folder of the jobs, in the run folder.
        gpus: on each machine.
        data: that the job reads.
        built: folders of shards that earlier jobs of the chain make, and that are not looked at yet.

    Raises:
        InputError: where the data are not there.
    """
    token = logs / f"{_TOKENS}-{secrets.token_hex(6)}"
    digest = ""
    if data is not None and not {Path(root).resolve() for root in data.roots} & {path.resolve() for path in built}:
        digest = _digest(data)
    logs.mkdir(parents=True, exist_ok=True)
    token.touch()
    return Expected(str(token.resolve()), installed_versions(), gpus, digest, data)


def check_node(expected: Expected, environ: Mapping[str, str]) -> None:
    """Compare this machine with the one of the submission.

    Raises:
        InputError: naming this machine, what differs and what mends it.
    """
    for difference in (_unshared(expected), _versions(expected), _data(expected), _gpus(expected, environ)):
        if difference:
            raise InputError(f"node {environ.get('SLURMD_NODENAME') or socket.gethostname()}: {difference}")


def _unshared(expected: Expected) -> str:
    token = Path(expected.token)
    if not token.parent.is_dir():
        return f"the run folder is not there: {token.parent} does not exist on this machine; take shared storage"
    if not token.is_file():
        return (
            f"{token.parent} is not the folder that the submission wrote to: its file {token.name} is missing here. "
            "Take a run folder on storage that all machines share"
        )
    return "" if os.access(token.parent, os.W_OK) else f"{token.parent} cannot be written from this machine"


def _versions(expected: Expected) -> str:
    here = installed_versions()
    differing = [
        f"{name} is {here.get(name) or 'not installed'}, was {wanted or 'not installed'} at the submission"
        for name, wanted in expected.versions.items()
        if here.get(name, "") != wanted
    ]
    if not differing:
        return ""
    return f"{'; '.join(differing)}. Use one environment on shared storage, or name this machine in --sbatch exclude="


def _data(expected: Expected) -> str:
    if expected.data is None:
        return ""
    try:
        digest = _digest(expected.data)
    except InputError as error:
        return f"the shards cannot be opened: {error}"
    if expected.digest and digest != expected.digest:
        return (
            f"data.root ({', '.join(expected.data.roots)}) holds other shards than at the submission (digest "
            f"{digest[:12]}, was {expected.digest[:12]}); every machine has to see the same"
        )
    return ""


def _digest(data: DataConfig) -> str:
    # Where the shards are, not where `data.stage` copies them to: that takes minutes, and every machine has its own.
    return DataConfig(root=data.root, split=data.split).open().digest


def _gpus(expected: Expected, environ: Mapping[str, str]) -> str:
    if not expected.gpus:
        return ""
    import torch

    # A rank that was given its own GPU sees no others.
    given = [one for one in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    wanted = min(expected.gpus, len(given)) if given else expected.gpus
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen >= wanted:
        return ""
    return (
        f"{wanted} GPUs are to be there (launch.gpus_per_node), and torch sees {seen}. Look at nvidia-smi on this "
        "machine and at torch.version.cuda; for a run on the CPU set dist.device to cpu"
    )
