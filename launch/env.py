"""Who started this process: torchrun, SLURM (submitit or srun), or nobody; one set of variables for the engine."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_process.errors import InputError

ROOMS = ("data_process", "pipelines", "models", "engine", "launch", "configs")
_PORTS = 10000, 20000
"""First port and their number: below Linux's ephemeral range, where other programs' connections begin."""


def rank_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT that are missing; a pure function.

    Under torchrun all are set, and nothing is added. In a SLURM job step of several tasks (submitit's or srun's) they
    follow from SLURM's variables, under submitit's local executor from its own. Otherwise the process is alone and
    nothing is added.

    Raises:
        InputError: for a SLURM step whose variables are incomplete.
    """
    if "RANK" in environ:
        return {}
    if "SLURM_STEP_ID" in environ and int(environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return _slurm_variables(environ)
    if environ.get("SUBMITIT_EXECUTOR") == "local" and int(environ.get("SUBMITIT_LOCAL_NTASKS", "1")) > 1:
        return _local_variables(environ)
    return {}


def was_started_again(environ: Mapping[str, str]) -> bool:
    """Whether SLURM has requeued this job, or torchrun restarted its workers."""
    counts = (environ.get(name, "0") for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))
    return any(count.isdecimal() and int(count) > 0 for count in counts)


def _slurm_variables(environ: Mapping[str, str]) -> dict[str, str]:
    try:
        nodes = expand_nodes(environ.get("SLURM_STEP_NODELIST") or environ["SLURM_JOB_NODELIST"])
        tasks = tasks_per_node(environ.get("SLURM_STEP_TASKS_PER_NODE") or environ["SLURM_TASKS_PER_NODE"])
        return {
            "RANK": environ["SLURM_PROCID"],
            "WORLD_SIZE": environ["SLURM_STEP_NUM_TASKS"],
            "LOCAL_RANK": environ["SLURM_LOCALID"],
            "LOCAL_WORLD_SIZE": str(tasks[int(environ["SLURM_NODEID"])]),
            "MASTER_ADDR": nodes[0],
            "MASTER_PORT": str(master_port(environ["SLURM_JOB_ID"], environ.get("SLURM_RESTART_COUNT", "0"))),
        }
    except KeyError as error:
        raise InputError(
            f"this is a SLURM step of {environ['SLURM_STEP_NUM_TASKS']} tasks, but {error} is not set; start it with "
            "srun or intravid submit"
        ) from None


def _local_variables(environ: Mapping[str, str]) -> dict[str, str]:
    rank, ranks = environ["SUBMITIT_LOCAL_GLOBALID"], environ["SUBMITIT_LOCAL_NTASKS"]
    return {
        "RANK": rank,
        "WORLD_SIZE": ranks,
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": ranks,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(master_port(environ["SUBMITIT_LOCAL_JOB_ID"], "0")),
    }


def master_port(job_id: str, restarts: str) -> int:
    """Port of the rendezvous: another for each job, and another after each requeue, where the old may linger."""
    first, count = _PORTS
    return first + (int(job_id) * 7 + int(restarts)) % count


def expand_nodes(text: str) -> list[str]:
    """Names in a SLURM node list: ``gpu[01-03,7],login`` gives gpu01, gpu02, gpu03, gpu7, login."""
    names = []
    for part in re.findall(r"[^,\[]+(?:\[[^\]]*\][^,\[]*)*", text):
        expanded = [""]
        for plain, bracket in re.findall(r"([^\[\]]+)|\[([^\]]*)\]", part):
            endings = [plain] if plain else _expand_bracket(bracket)
            expanded = [before + ending for before in expanded for ending in endings]
        names += expanded
    return names


def _expand_bracket(text: str) -> list[str]:
    numbers = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        numbers += [f"{number:0{len(first)}d}" for number in range(int(first), int(last or first) + 1)]
    return numbers


def tasks_per_node(text: str) -> list[int]:
    """Counts in SLURM's short form: ``2(x3),1`` gives 2, 2, 2, 1."""
    counts: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", piece)
        if match is None:
            raise InputError(f"SLURM_TASKS_PER_NODE {text!r} is not of the form 2(x3),1")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def check_network(environ: Mapping[str, str]) -> None:
    """Refuse a start over several machines that would publish loopback addresses to its peers.

    Raises:
        InputError: where the own host name means loopback and no interface is named.
    """
    if int(environ.get("WORLD_SIZE", "1")) <= int(environ.get("LOCAL_WORLD_SIZE", environ.get("WORLD_SIZE", "1"))):
        return
    if environ.get("GLOO_SOCKET_IFNAME"):
        return
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        address = "nothing"
    if address == "nothing" or address.startswith("127."):
        raise InputError(
            f"the name of this machine, {name}, resolves to {address}, which other machines cannot reach; set "
            "GLOO_SOCKET_IFNAME (and NCCL_SOCKET_IFNAME) to the network interface that joins them, for instance eth0"
        )


def check_one_checkout(names: Sequence[str] = ROOMS) -> None:
    """Refuse a start in which these packages do not come from one folder.

    Raises:
        InputError: naming what shadows what.
    """
    from importlib.util import find_spec

    here = Path(__file__).resolve().parents[1]
    for name in names:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin.parents[1] != here:
            raise InputError(
                f"the package {name} comes from {origin}, the others from {here}: another folder of that name stands "
                "before it on the import path; start from another working directory or mend PYTHONPATH"
            )
