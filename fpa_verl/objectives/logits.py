"""(N, V) logits that are read a chunk of rows at a time, so that nothing of their size is made a second time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch

# Elements of a chunk of rows: 128 MiB of float32, or 220 tokens of a 151,936-token vocabulary, so that kernels
# are few and a head is read seldom. Logits that are there already go through a CPU in 16 MiB, which allocators
# and caches like better.
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
    """(M, V) logits made again from last hidden states.

    Args:
        hidden: (M, d).
        head: (V, d), the output embeddings of the model that gave the hidden states.
        temperature: what the logits are divided by.
    """

    def __init__(self, hidden: torch.Tensor, head: torch.Tensor, temperature: float) -> None:
        self._hidden, self._head, self._temperature = hidden, head, temperature
        self.shape = torch.Size((len(hidden), len(head)))
        self.device, self.dtype = hidden.device, head.dtype

    def rows(self, part: slice) -> Rows:
        return Rows(torch.nn.functional.linear(self._hidden[part], self._head).div_(self._temperature))


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


def chunks(logits: Logits | torch.Tensor, elements: int | None, *, remade: bool = False) -> Iterator[slice]:
    """Slices of the rows, each of at most `elements` elements, or one row.

    Args:
        logits: (N, V).
        elements: None: as the device likes it.
        remade: whether a head is read for every chunk.
    """
    rows, width = logits.shape
    in_cache = logits.device.type == "cpu" and not remade
    elements = elements or (CHUNK_ELEMENTS_ON_CPU if in_cache else CHUNK_ELEMENTS)
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
