"""A memory bank of which every rank keeps a part, and how the parts come together.

N rows, D features, W ranks; B samples of this rank, M rows that each of them is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional

from data_process.errors import RunError
from models.gather import rank, world_size
from models.memory_bank import BankPlacement, MemoryBank, checked_momentum, first_occurrences, first_rows, moved
from models.row_exchange import DrawnRows, RowExchange

_BLOCK = 1 << 22
"""Numbers of a bank that are drawn, or gathered from all ranks, at a time."""


class ShardedBank(nn.Module):
    """As `MemoryBank`, with row i in place i // W of rank i mod W; made after the ranks have found each other.

    Scores, their gradients and the rows are those of a whole bank; how they are got, and what travels for it, tells
    `models.row_exchange`. The rows are neither parameter nor buffer, because DDP makes those of all ranks equal, and
    not in `state_dict`, which one rank may call alone: `gathered_rows` gives them. `load_state_dict` takes whole banks,
    so that a checkpoint fits any number of ranks and either placement.

    Args:
        num_rows: N, videos.
        dim: D, size of a feature.
        momentum: share of the old row in the new one.
        generator: of the initial rows, which are those of a whole bank; left in the same state as by one.

    Attributes:
        rows: (ceil(N / W), D) of this rank; on some ranks the last one is not used.
    """

    def __init__(self, num_rows: int, dim: int, *, momentum: float, generator: torch.Generator) -> None:
        super().__init__()
        self.num_rows, self.momentum = num_rows, checked_momentum(momentum)
        self._rank, self._ranks = rank(), world_size()
        self.rows = torch.zeros(-(-num_rows // self._ranks), dim)
        for block in self._blocks():
            self._own_part(block).copy_(first_rows(len(block), dim, generator)[self._rank :: self._ranks])

    def find(self, index: Tensor) -> DrawnRows:
        """The rows index (B, M), to be scored in any sharded bank of the same size; collective, waits for the device.

        Raises:
            RunError: where the ranks are not those among which the rows were shared out.
        """
        if world_size() != self._ranks:
            raise RunError(
                f"the bank was made for {self._ranks} ranks, and is used by {world_size()}; make the method after "
                "torch.distributed.init_process_group"
            )
        return DrawnRows(index, RowExchange(index, self.num_rows))

    def scores(self, features: Tensor, drawn: DrawnRows) -> Tensor:
        """Dot products (B, M) of features (B, D) and of the rows that were drawn for each; collective."""
        assert drawn.exchange is not None
        return drawn.exchange.scores(features, self.rows)

    @torch.no_grad()
    def update(self, index: Tensor, features: Tensor) -> None:
        """As `MemoryBank.update`, with the index (B,) and features (B, D) of all ranks, the same on every rank."""
        first = first_occurrences(index)
        own = first[index[first] % self._ranks == self._rank]
        places = index[own] // self._ranks
        self.rows[places] = moved(self.rows[places], features[own], self.momentum)

    @torch.no_grad()
    def whole(self) -> Tensor | None:
        """All rows (N, D) on the CPU of rank 0, None on the others; collective, some 16 MB at a time."""
        if self._ranks == 1:
            return self.rows.to("cpu", copy=True)
        is_main = self._rank == 0
        whole = torch.empty((self.num_rows if is_main else 0, self.rows.shape[1]), dtype=self.rows.dtype)
        for block in self._blocks():
            part = self._own_part(block)
            part = functional.pad(part, (0, 0, 0, -(-len(block) // self._ranks) - len(part)))
            parts = [torch.empty_like(part) for _ in range(self._ranks)] if is_main else None
            dist.gather(part, parts)
            if parts is not None:
                whole[block.start : block.stop] = torch.stack(parts, dim=1).flatten(0, 1)[: len(block)]
        return whole if is_main else None

    def _blocks(self) -> list[range]:
        """Rows of the whole bank in parts that begin with one of rank 0."""
        size = max(1, _BLOCK // (self.rows.shape[1] * self._ranks)) * self._ranks
        return [range(start, min(start + size, self.num_rows)) for start in range(0, self.num_rows, size)]

    def _own_part(self, block: range) -> Tensor:
        """Those of a block that are here."""
        start = block.start // self._ranks
        return self.rows[start : start + len(block[self._rank :: self._ranks])]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ShardedBank:
        super()._apply(fn, recurse)
        self.rows = fn(self.rows)
        return self

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        name, expected = f"{prefix}rows", (self.num_rows, self.rows.shape[1])
        if name not in state_dict:
            missing_keys.append(name)
        elif state_dict[name].shape != expected:
            error_msgs.append(f"size mismatch for {name}: {tuple(state_dict[name].shape)}, expected {expected}")
        else:
            self._own_part(range(self.num_rows)).copy_(state_dict[name][self._rank :: self._ranks])


def build_bank(
    placement: BankPlacement, num_rows: int, dim: int, *, momentum: float, generator: torch.Generator
) -> MemoryBank | ShardedBank:
    """A bank with the same first rows wherever they are kept; one rank alone keeps all of them."""
    kind = ShardedBank if placement == "sharded" and world_size() > 1 else MemoryBank
    return kind(num_rows, dim, momentum=momentum, generator=generator)


def gathered_rows(module: nn.Module) -> dict[str, Tensor]:
    """What `state_dict` lacks of a module with sharded banks: by name their whole rows (N, D), on the CPU of rank 0.

    Empty on the other ranks; collective. With it the state is that of replicated banks.
    """
    banks = {name: part.whole() for name, part in module.named_modules() if isinstance(part, ShardedBank)}
    return {f"{name}.rows" if name else "rows": rows for name, rows in banks.items() if rows is not None}
