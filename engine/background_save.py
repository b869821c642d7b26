"""Checkpoints written while training goes on: the state is copied at the step, a thread brings it to the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.checkpoint import RunState, save_checkpoint


class BackgroundSaver:
    """Writes one state at a time; the next waits for it, as does the end of the run.

    What is on the disk is what `save_checkpoint` writes. The copy takes as much memory of the machine as the state;
    what was gathered for it is not copied, and let go once it is written.

    Args:
        folder: of the checkpoints.
        keep: newest files that stay.
        keep_every: files of steps that this divides stay too; 0 for none.
    """

    def __init__(self, folder: Path, *, keep: int, keep_every: int) -> None:
        self._folder, self._keep, self._keep_every = folder, keep, keep_every
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="intravid-save")
        self._writing: Future[Path] | None = None
        self._copies: dict[str, Tensor] = {}
        self._from_gpu = False

    def save(self, state: RunState, *, first: Callable[[], object] = lambda: None) -> None:
        """Copy the state, and write it as soon as the one before is written.

        Args:
            state: of this moment; what it holds may change afterwards.
            first: carried out by the writing thread before it writes.

        Raises:
            RunError: if the one before could not be written.
        """
        self.wait()
        copied = replace(
            state,
            method=self._copied(state.method, "method"),
            optimizer=self._copied(state.optimizer, "optimizer"),
            scaler=self._copied(state.scaler, "scaler"),
            ema=self._copied(state.ema, "ema"),
        )
        if self._from_gpu:
            torch.cuda.current_stream().synchronize()
        self._writing = self._thread.submit(self._write, copied, first)

    def _write(self, state: RunState, first: Callable[[], object]) -> Path:
        first()
        return save_checkpoint(self._folder, state, keep=self._keep, keep_every=self._keep_every)

    def wait(self) -> None:
        """Wait until what was saved last is on the disk.

        Raises:
            RunError: if it could not be written; older checkpoints are untouched then.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown(wait=True)

    def _copied(self, value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            return self._copied_tensor(value, name)
        if isinstance(value, Mapping):
            return {key: self._copied(one, f"{name}/{key}") for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._copied(one, f"{name}/{place}") for place, one in enumerate(value))
        return value

    def _copied_tensor(self, tensor: Tensor, name: str) -> Tensor:
        # The memory of the last copy is used again: it is written by now, and fresh pages cost more than the copying.
        copy = self._copies.get(name)
        if copy is None or (copy.shape, copy.dtype, copy.stride()) != (tensor.shape, tensor.dtype, tensor.stride()):
            # Locked pages, which a GPU fills by itself: it is waited for once, behind the last tensor.
            copy = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda
            )
            self._copies[name] = copy
        self._from_gpu |= tensor.is_cuda
        return copy.copy_(tensor.detach(), non_blocking=True)
