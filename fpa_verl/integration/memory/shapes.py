"""Tensors that have shapes and no data, and the memory that they would take on a device."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

# The CUDA allocator hands out no less.
ROUNDED_TO = 512
# What a loss, a norm or a flag is taken for where the code asks for its value.
VALUES = {torch.bool: True}
READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)


class Shapes(TorchDispatchMode):
    """Under it, weights and what is computed of them have shapes alone, and their memory is counted.

    What is computed of token ids, lengths and masks alone is computed in truth, for code asks how long a sequence is.

    Attributes:
        live: bytes that tensors without data take now.
        peaks: of each phase that was entered, the most that they took in it.
    """

    def __init__(self) -> None:
        super().__init__()
        # Token ids and masks meet weights without data.
        self._fakes = FakeTensorMode(allow_non_fake_inputs=True)
        self._sizes: dict[int, int] = {}
        self._phases = ["none"]
        self.live = 0
        self.peaks: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(not issubclass(one, FakeTensor | torch.nn.Parameter) and one is not torch.Tensor for one in types):
            # Nested and distributed tensors: what is inside them comes here again.
            return NotImplemented
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        fake = next((one for one in given if isinstance(one, FakeTensor)), None)
        if fake is None and (given or not _makes_floats(func, args, kwargs)):
            return func(*args, **kwargs)
        if fake is not None and func in READS:
            return VALUES.get(fake.dtype, 1.0)
        if not all(isinstance(one, FakeTensor) for one in given):
            args, kwargs = tree_map_only(torch.Tensor, _bare, (args, kwargs))
        with self._fakes:
            out = func(*args, **kwargs)
        self._count(out)
        return out

    @contextmanager
    def building(self) -> Iterator[None]:
        """All tensors that are made here are without data; those that are left are counted as they are met."""
        with self._fakes:
            yield

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor without data, whatever its dtype."""
        with self._fakes:
            made = torch.empty(shape, dtype=dtype)
        self._count(made)
        return made

    def __enter__(self) -> Any:
        original = torch.UntypedStorage.resize_

        def resize(storage: torch.UntypedStorage, size: int) -> Any:
            done = original(storage, size)
            if id(storage) in self._sizes:
                self._hold(storage)
                self._note()
            return done

        # FSDP empties what it has gathered, and fills it again, by the size of its storage: no operator tells of that.
        self._storages = mock.patch.object(torch.UntypedStorage, "resize_", resize)
        self._storages.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> Any:
        self._storages.stop()
        return super().__exit__(*error)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What is live at most in here counts as the phase's; within another, as the inner one's alone."""
        self._phases.append(name)
        self._note()
        try:
            yield
        finally:
            self._phases.pop()

    def _note(self) -> None:
        name = self._phases[-1]
        self.peaks[name] = max(self.peaks.get(name, 0), self.live)

    def _count(self, out: Any) -> None:
        for tensor in tree_leaves(out):
            if isinstance(tensor, FakeTensor):
                self._hold(tensor.untyped_storage())
        self._note()

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key not in self._sizes:
            weakref.finalize(storage, self._let_go, key)
            self._sizes[key] = 0
        size = -(-storage.nbytes() // ROUNDED_TO) * ROUNDED_TO
        self.live += size - self._sizes[key]
        self._sizes[key] = size

    def _let_go(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


def _makes_floats(func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether a function that is given no tensor makes one for weights or activations."""
    dtype = options.get("dtype")
    if dtype is None and func.overloadpacket is torch.ops.aten.arange:
        return any(isinstance(one, float) for one in args)
    return dtype is None or dtype.is_floating_point


def _bare(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with data without what makes it the offsets of a nested one, which may not become shapes."""
    return tensor if isinstance(tensor, FakeTensor) else tensor.detach()
