"""(N, V) logits that are read a chunk of rows at a time, so that nothing of their size is made a second time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch

# Elements of a chunk of rows: 128 MiB of float32, or 220 tokens of a 151,936-token vocabulary, so that kernels
# are few; on a CPU 16 MiB, which allocators and caches like better.
CHUNK_ELEMENTS = 1 << 25
CHUNK_ELEMENTS_ON_CPU = 1 << 22


class Rows(NamedTuple):
    """Rows of a tensor, (n, V): all of them, or those of an index, which a compiled kernel does not copy out."""

    tensor: torch.Tensor
    at: torch.Tensor | None = None


class Logits(Protocol):
    """(N, V) logits: whatever has their shape and gives the rows of a slice."""

    @property
    def shape(self) -> torch.Size: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...
    def rows(self, part: slice) -> Rows: ...


class SelectedRows:
    """Rows of (N, V) logits by index, (M, V).

    Args:
        logits: (N, V).
        index: (M,).
    """

    def __init__(self, logits: torch.Tensor, index: torch.Tensor) -> None:
        self._logits, self._index = logits, index
        self.shape = torch.Size((len(index), logits.shape[1]))
        self.device, self.dtype = logits.device, logits.dtype

    def rows(self, part: slice) -> Rows:
        return Rows(self._logits, self._index[part])


class RemadeLogits:
    """(M, V) logits made again from last hidden states, a block of rows at a time, for the head is read for each.

    Args:
        hidden: (M, d).
        head: (V, d), the output embeddings of the model that gave the hidden states.
        temperature: what the logits are divided by.
        block_elements: of a block, the last of which is kept for the chunks that are asked for.
    """

    def __init__(
        self, hidden: torch.Tensor, head: torch.Tensor, temperature: float, *, block_elements: int = CHUNK_ELEMENTS
    ) -> None:
        self._hidden, self._head, self._temperature = hidden, head, temperature
        self._block_rows = max(1, block_elements // len(head))
        self._block, self._start = head.new_empty(0, len(head)), 0
        self.shape = torch.Size((len(hidden), len(head)))
        self.device, self.dtype = hidden.device, head.dtype

    def rows(self, part: slice) -> Rows:
        start, stop, _ = part.indices(len(self._hidden))
        if start < self._start or stop > self._start + len(self._block):
            # The one before goes first: never two of them.
            del self._block
            states = self._hidden[start : max(stop, start + self._block_rows)]
            self._block = torch.nn.functional.linear(states, self._head).div_(self._temperature)
            self._start = start
        return Rows(self._block[start - self._start : stop - self._start])


def rows_of(logits: Logits | torch.Tensor, part: slice) -> Rows:
    """The rows of a slice."""
    return Rows(logits[part]) if isinstance(logits, torch.Tensor) else logits.rows(part)


def taken(rows: Rows) -> torch.Tensor:
    """The rows as a tensor of their own dtype."""
    return rows.tensor if rows.at is None else rows.tensor[rows.at]


def work_dtype(dtype: torch.dtype) -> torch.dtype:
    """What is computed in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def worked(rows: Rows) -> torch.Tensor:
    """The rows in the dtype that is computed in."""
    return taken(rows).to(work_dtype(rows.tensor.dtype))


def chunks(logits: Logits | torch.Tensor, elements: int | None) -> Iterator[slice]:
    """Slices of the rows of (N, V) logits, of at most so many elements or one row; None: as the device likes it."""
    rows, width = logits.shape
    elements = elements or (CHUNK_ELEMENTS_ON_CPU if logits.device.type == "cpu" else CHUNK_ELEMENTS)
    step = max(1, elements // width)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


@cache
def _compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
    # Chunks differ in their number of rows.
    return torch.compile(kernel, dynamic=True)


def choose(kernel: Callable[..., Any], *, compiled: bool) -> Callable[..., Any]:
    """The kernel as it is, or compiled by torch: the same numbers to rounding, each logit read once or twice."""
    return _compiled(kernel) if compiled else kernel
