"""The group of processes that train together: who this one is, on which device, and how all agree on small things."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Thread
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from data_process.errors import InputError, RunError

Name = TypeVar("Name")
Result = TypeVar("Result")


@dataclass(frozen=True)
class DistConfig:
    """How processes find and wait for each other.

    Attributes:
        device: ``auto`` takes a GPU where torch sees one, else the CPU.
        backend: ``auto`` is nccl on a GPU and gloo on the CPU.
        timeout_s: seconds after which a silent peer counts as lost. Must exceed the slowest legitimate wait: writing a
            checkpoint, the first compiled step, the slowest rank's part of an evaluation after the quickest one's.
            Opening (and staging) the data may take longer.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: Literal["auto", "gloo", "nccl"] = "auto"
    timeout_s: float = 300.0

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise InputError(f"dist.timeout_s must be positive, got {self.timeout_s}")
        if self.device == "cpu" and self.backend == "nccl":
            raise InputError("dist.backend nccl needs GPUs, but dist.device is cpu; set dist.backend to gloo or auto")


@dataclass(frozen=True)
class World:
    """All processes of a run and the place of this one among them; can be built by hand for a single process.

    Attributes:
        rank: number of this process, from 0.
        world_size: number of processes.
        local_rank: number of this process on its machine, from 0.
        local_world_size: number of processes on its machine.
        device: where this process computes.
        control: gloo group for small agreements between CPUs, so that they never wait for a GPU; None if alone.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    control: dist.ProcessGroup | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size or not 0 <= self.local_rank < self.local_world_size:
            raise ValueError(f"ranks must lie below their world sizes, got {self}")

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0

    def largest(self, value: int) -> int:
        """The largest of all ranks' values, the same on every rank."""
        if self.control is None:
            return value
        tensor = torch.tensor([value], dtype=torch.int64)
        with peers_answer():
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.control)
        return int(tensor.item())

    def mean(self, values: Mapping[Name, Tensor]) -> dict[Name, float]:
        """Mean over ranks of named scalars, summed in float64; waits for the device. All ranks name the same."""
        if not values:
            return {}
        stacked = torch.stack([value.detach().double().reshape(()) for value in values.values()]).cpu()
        if self.control is not None:
            with peers_answer():
                dist.all_reduce(stacked, group=self.control)
        return dict(zip(values, (stacked / self.world_size).tolist(), strict=True))

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value (small, picklable), in rank order, on all ranks."""
        if self.control is None:
            return [value]
        values: list[Any] = [None] * self.world_size
        with peers_answer():
            dist.all_gather_object(values, value, group=self.control)
        return values

    def concatenate(self, rows: Tensor) -> Tensor:
        """All ranks' CPU rows (n_r, ...) one below the other in rank order, (sum of n_r, ...), nothing padded."""
        if self.control is None:
            return rows
        parts = []
        for rank, count in enumerate(self.gather(rows.shape[0])):
            part = rows.contiguous() if rank == self.rank else rows.new_empty((count, *rows.shape[1:]))
            if count:
                with peers_answer():
                    dist.broadcast(part, src=rank, group=self.control)
            parts.append(part)
        return torch.cat(parts)

    def finish_together(self, work: Callable[[], Result], *, poll_s: float = 1.0) -> Result:
        """Result of work that takes some ranks longer than others, such as a copy to each machine's disk.

        Returns on every rank once all are done. The work runs in a thread of its own while this one stays in touch
        with the others, so that it may take any time, and ``timeout_s`` is only for peers that are really lost.

        Raises:
            RunError: where the work of another rank failed; what failed here is raised as it is.
        """
        if self.control is None:
            return work()
        job: Future[Result] = Future()
        # A daemon: when another rank has failed, nobody waits for hours of copying to end.
        Thread(target=_carry_out, args=(work, job), name="finish_together", daemon=True).start()
        while True:
            wait([job], timeout=poll_s)
            # Asked once a round: a job that ends after the others were told "working" is told in the next round.
            state = "working" if not job.done() else "failed" if job.exception() else "done"
            states = self.gather(state)
            if state == "failed" or not {"working", "failed"} & set(states):
                return job.result()
            if "failed" in states:
                raise RunError(f"rank {states.index('failed')} could not get ready to start; its log tells the cause")

    def wait_for_all(self) -> None:
        """Return once every rank has come here."""
        self.largest(0)


class LostPeerError(RunError):
    """Another process of the run failed or does not answer; which one, the collective operation cannot tell."""


def _carry_out(work: Callable[[], Result], job: Future[Result]) -> None:
    try:
        job.set_result(work())
    except BaseException as error:  # whoever waits for the job raises it
        job.set_exception(error)


@contextlib.contextmanager
def peers_answer() -> Iterator[None]:
    """Turn a failed collective into a `LostPeerError`; other errors pass.

    gloo and NCCL raise plain RuntimeErrors from all-reduces (those of DDP come out of `backward`), with their name in
    the text. After one of them nothing can be saved or agreed any more.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, dist.DistError) and "gloo" not in text and "NCCL" not in text:
            raise
        raise LostPeerError(
            f"another process of this run does not answer any more ({text.splitlines()[0]}); the other ranks' logs "
            "tell the cause. The last checkpoint is complete: start again to go on from it"
        ) from error


def join(config: DistConfig, environ: Mapping[str, str] | None = None) -> World:
    """Enter the process group named by RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

    These variables are only read; torchrun or `launch` sets them. Without RANK the process is alone and no group is
    made. The device of a rank is ``cuda:LOCAL_RANK``, or ``cuda:0`` where just one GPU is visible to it (SLURM and
    CUDA_VISIBLE_DEVICES may hide the others); the data pipeline takes its device from `World.device`, so that both
    always follow the same convention.

    Raises:
        InputError: for an incomplete environment, or a GPU that is asked for and not there.
    """
    environ = os.environ if environ is None else environ
    if "RANK" not in environ:
        return World(device=pick_device(config.device, local_rank=0))
    rank, world_size = _number(environ, "RANK"), _number(environ, "WORLD_SIZE")
    local_rank = _number(environ, "LOCAL_RANK", default=0 if world_size == 1 else None)
    local_world_size = _number(environ, "LOCAL_WORLD_SIZE", default=max(local_rank + 1, 1))
    if rank >= world_size:
        raise InputError(f"RANK is {rank}, but WORLD_SIZE is {world_size}; ranks are counted from 0")
    place = (rank, world_size, local_rank, local_world_size)
    device = pick_device(config.device, local_rank=local_rank)
    if world_size == 1:
        return World(*place, device=device)
    return World(*place, device=device, control=_enter(config, rank, world_size, device, environ))


def leave() -> None:
    """Leave the process group after a clean end. After a lost peer just exit: taking a group apart may hang."""
    if dist.is_initialized():
        dist.destroy_process_group()


def pick_device(asked: str, *, local_rank: int) -> torch.device:
    """The device of a process, by the convention that `join` describes."""
    if asked == "cpu":
        return torch.device("cpu")
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if visible == 0:
        if asked == "cuda":
            raise InputError("dist.device is cuda, but torch sees no GPU; set dist.device to cpu or auto")
        return torch.device("cpu")
    if visible == 1:
        return torch.device("cuda", 0)
    if local_rank >= visible:
        raise InputError(f"LOCAL_RANK is {local_rank}, but only {visible} GPUs are visible; start fewer processes")
    return torch.device("cuda", local_rank)


def _enter(
    config: DistConfig, rank: int, world_size: int, device: torch.device, environ: Mapping[str, str]
) -> dist.ProcessGroup:
    address, port = environ.get("MASTER_ADDR"), _number(environ, "MASTER_PORT")
    if not address:
        raise InputError("RANK is set, but MASTER_ADDR is not; start with torchrun or intravid submit")
    host = f"[{address}]" if ":" in address else address
    timeout = timedelta(seconds=config.timeout_s)
    backend = config.backend if config.backend != "auto" else ("nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with peers_answer():
        # Under torchrun the tcp method finds the agent's store by itself and joins it as a client.
        dist.init_process_group(
            backend,
            init_method=f"tcp://{host}:{port}",
            rank=rank,
            world_size=world_size,
            # NCCL ends the process without a name; the control group, which waits in the same step, is to speak first.
            timeout=1.5 * timeout if backend == "nccl" else timeout,
            device_id=device if backend == "nccl" else None,
        )
        group = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(group, dist.ProcessGroup)
    return group


def _number(environ: Mapping[str, str], name: str, *, default: int | None = None) -> int:
    text = environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise InputError(
            f"RANK is set, but {name} is {'not' if text is None else repr(text)}, expected a whole number; "
            "start with torchrun or intravid submit, or unset RANK for a single process"
        )
    return int(text)
