"""Two processes of one gloo group, started once for all tests that need them."""

import contextlib
import multiprocessing
import socket
import traceback

from engine.world import DistConfig, join, leave


class Ranks:
    """Runs `function(world, *arguments)` on every rank and gives the results in rank order."""

    def __init__(self, world_size=2, *, timeout_s=60):
        context = multiprocessing.get_context("spawn")
        port = free_port()
        self._pipes, self._processes = [], []
        for rank in range(world_size):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, rank, world_size, port, timeout_s), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, function, *arguments):
        for pipe in self._pipes:
            pipe.send((function, arguments))
        answers = [pipe.recv() for pipe in self._pipes]
        failed = [text for succeeded, text in answers if not succeeded]
        assert not failed, "\n".join(failed)
        return [value for _, value in answers]

    def run_on_survivor(self, function):
        """Runs `function(world)` where every rank but 0 ends its process in it: the result of rank 0."""
        for pipe in self._pipes:
            pipe.send((function, ()))
        succeeded, value = self._pipes[0].recv()
        assert succeeded, value
        return value

    def stop(self):
        for pipe in self._pipes:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                pipe.send(None)
        for process in self._processes:
            process.join(timeout=30)


def environment(rank, world_size, port):
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _serve(pipe, rank, world_size, port, timeout_s):
    import torch

    torch.set_num_threads(1)
    world = join(DistConfig(device="cpu", timeout_s=timeout_s), environment(rank, world_size, port))
    while (request := pipe.recv()) is not None:
        function, arguments = request
        try:
            pipe.send((True, function(world, *arguments)))
        except BaseException:
            pipe.send((False, f"rank {rank}:\n{traceback.format_exc()}"))
    leave()
