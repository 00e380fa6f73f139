"""Where the reference's opinion on a micro-batch comes from: a forward pass, or a cache of one.

forward   the frozen base model's logits in the same step: exact, no storage, one forward; with LoRA of the
          actor's own engine, its adapter switched off, and no second copy
hidden    cached last hidden states, logits re-made through the reference's head: exact to rounding
topk      cached label, K most likely tokens and samples of the rest: an estimate of the normaliser
chosen    cached label alone: no normaliser, so the future policy is over-estimated; an ablation

Shape letters: N packed positions of a micro-batch as the engine has them, M response tokens among them,
V vocabulary, d hidden size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.ulysses import get_ulysses_sequence_parallel_rank
from verl.workers.engine.base import BaseEngine

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.workers.adapter import without_adapter
from fpa_verl.integration.workers.heads import require_same_logits
from fpa_verl.objectives import (
    CoarseReference,
    RemadeLogits,
    SelectedRows,
    coarse_future_policy,
    coarsen,
    forward_kl,
    future_log_probs,
    label_log_probs,
)
from fpa_verl.objectives.logits import Logits, taken
from fpa_verl.rollouts.known import known_rows
from fpa_verl.rollouts.reference_cache import ReferenceCache


@dataclass(frozen=True)
class ResponsePositions:
    """The positions of a micro-batch that predict a response token.

    Attributes:
        index: (M,) into the engine's N packed positions; of this rank's part under Ulysses.
        labels: (M,) the tokens predicted.
        stored: (M,) into the response tokens of the micro-batch, one row after another; None where it is all of them.
        rows, lengths: of each trajectory, its row in the dataset and its response tokens.
        packed: N.
    """

    index: torch.Tensor
    labels: torch.Tensor
    stored: torch.Tensor | None
    rows: list[int]
    lengths: list[int]
    packed: int

    @classmethod
    def of(cls, micro_batch: TensorDict) -> ResponsePositions:
        """Of a micro-batch on the device, which is not waited for: the forward pass may be under way."""
        known = known_rows(micro_batch)
        rows, lengths_here = [one.row for one in known], [one.response_tokens for one in known]
        total = sum(lengths_here)
        tokens = micro_batch["input_ids"].values()
        starts = micro_batch["input_ids"].offsets()[:-1]
        prompts, lengths = (micro_batch[name].offsets().diff() for name in ("prompts", "responses"))
        # A token is predicted by the position before it.
        first = starts + prompts - 1
        count = torch.arange(total, device=tokens.device)
        within = count - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths, output_size=total)
        index = torch.repeat_interleave(first, lengths, output_size=total) + within
        labels, stored, packed = tokens[index + 1], None, len(tokens)
        if (ranks := tu.get_non_tensor_data(micro_batch, key="sp_size", default=1)) > 1:
            # verl pads the packed sequence to a multiple of the ranks and gives each an equal slice.
            share = -(-len(tokens) // ranks)
            mine = index // share == get_ulysses_sequence_parallel_rank()
            index, labels, stored, packed = index[mine] % share, labels[mine], count[mine], share
        return cls(index, labels, stored, rows, lengths_here, packed)

    def scatter(self, values: torch.Tensor) -> torch.Tensor:
        """(M,) values to their places among the N positions, zero elsewhere, as the engine wants it: (1, N)."""
        return values.new_zeros(self.packed).index_copy(0, self.index, values).unsqueeze(0)

    def mine(self, stored: torch.Tensor) -> torch.Tensor:
        """This rank's part of what is stored of the micro-batch, one row after another."""
        return stored if self.stored is None else stored[self.stored]

    def select(self, logits: torch.Tensor) -> SelectedRows:
        """The (M, V) logits of these positions out of an engine's (N, V).

        Raises:
            IntegrationError: the engine divides sequences among workers in another way than the actor.
        """
        if len(logits) != self.packed:
            raise IntegrationError(
                f"an engine gave logits at {len(logits)} positions of a micro-batch that has {self.packed}: set "
                "actor_rollout_ref.ref.ulysses_sequence_parallel_size to the actor's, and leave pad_to_length alone"
            )
        return SelectedRows(logits, self.index)


class Reference(ABC):
    """A source of the reference."""

    @abstractmethod
    def at(self, micro_batch: TensorDict, positions: ResponsePositions) -> ReferenceView:
        """The reference on the response tokens of a micro-batch."""


class ReferenceView(ABC):
    """The reference on M response tokens. Everything is without gradient but the forward KL."""

    @abstractmethod
    def log_probs(self) -> torch.Tensor:
        """Log pi_ref of the labels, (M,)."""

    @abstractmethod
    def future_policy(self, logits: SelectedRows, lam: float) -> dict[str, torch.Tensor]:
        """The future policy against the policy's (M, V) logits, each (M,).

        future_log_probs   log pi_hat of the labels
        future_error       standard error of that, of a coarse reference; absent where it is exact
        future_missed      by how much it is too high at least; likewise
        """

    def forward_kl(self, logits: torch.Tensor) -> torch.Tensor:
        """KL(pi_ref || pi_theta) at each of the M positions, with gradient to the (N, V) logits."""
        raise NotImplementedError(f"{type(self).__name__} keeps no whole distribution")


class ForwardReference(Reference):
    """The frozen base model behind verl's own engine, asked for logits in the actor's layout.

    Args:
        engine: runs the base model.
        adapted: the engine is the actor's, which trains an adapter: without it the model is the base model.
        compiled: whether torch compiles the work, as in `future_log_probs`.
    """

    def __init__(self, engine: BaseEngine, *, adapted: bool = False, compiled: bool = False) -> None:
        self._engine, self._compiled = engine, compiled
        self._frozen = partial(without_adapter, engine) if adapted else engine.eval_mode

    def at(self, micro_batch: TensorDict, positions: ResponsePositions) -> LogitsView:
        with self._frozen():
            logits = logits_of(self._engine, micro_batch)
        return LogitsView(positions.select(logits), positions, self._compiled)


@torch.no_grad()
def logits_of(engine: BaseEngine, micro_batch: TensorDict) -> torch.Tensor:
    """The engine's logits at every position of the micro-batch, (N, V), sliced and scaled as the actor's are.

    The engine is to be in a mode already.
    """
    captured: list[torch.Tensor] = []

    def capture(student_logits: torch.Tensor | None = None, **_: Any) -> Any:
        if student_logits is None:
            return torch.zeros(()), {}
        captured.append(student_logits.squeeze(0))
        return {}

    probe = micro_batch.clone(recurse=False)
    # verl then skips log-probs that nobody reads.
    tu.assign_non_tensor(probe, distillation_only=True)
    engine.forward_step(probe, loss_function=capture, forward_only=True)
    return captured[0]


def take_buffers(reference: torch.nn.Module, actor: torch.nn.Module) -> None:
    """Give a reference that is kept in a lower precision the buffers of the actor, which has the same model.

    verl rounds a model's buffers with its weights, and so the frequencies of rotary embeddings, which transformers
    keeps in float32 whatever the dtype.
    """
    exact = dict(actor.named_buffers())
    for name, _ in list(reference.named_buffers()):
        owner, _, buffer = name.rpartition(".")
        setattr(reference.get_submodule(owner), buffer, exact[name].clone())


class LogitsView(ReferenceView):
    """The view from the reference's logits, (M, V) by position or made a chunk at a time."""

    def __init__(self, logits: Logits, positions: ResponsePositions, compiled: bool) -> None:
        self._logits, self._labels, self._index = logits, positions.labels, positions.index
        self._compiled = compiled

    def log_probs(self) -> torch.Tensor:
        return label_log_probs(self._logits, self._labels, compiled=self._compiled)

    def future_policy(self, logits: SelectedRows, lam: float) -> dict[str, torch.Tensor]:
        future = future_log_probs(logits, self._logits, self._labels, lam, compiled=self._compiled)
        return {"future_log_probs": future}

    def forward_kl(self, logits: torch.Tensor) -> torch.Tensor:
        return forward_kl(logits[self._index], taken(self._logits.rows(slice(None))))


def _moved(array: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The array on the device, behind whatever that is doing: from pinned memory the host need not wait for it."""
    return array.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else array.to(device)


class CachedReference(Reference):
    """What a cache holds, read by row, on the device of the micro-batch.

    Args:
        cache: that of the dataset which is trained on.
        head: the reference's (V, d) output embeddings; for source "hidden" only.
        compiled: whether torch compiles the work, as in `future_log_probs`.
    """

    def __init__(self, cache: ReferenceCache, head: torch.Tensor | None = None, *, compiled: bool = False) -> None:
        self._cache, self._head, self._compiled = cache, head, compiled

    def at(self, micro_batch: TensorDict, positions: ResponsePositions) -> ReferenceView:
        device = positions.index.device
        read = self._cache.read(positions.rows, positions.lengths)
        arrays = {name: positions.mine(_moved(array, device)) for name, array in read.items()}
        if self._cache.source == "hidden":
            assert self._head is not None
            # An offloaded actor had its weights on the host when the head was copied.
            self._head = self._head.to(device)
            remade = RemadeLogits(arrays["hidden"], self._head, self._cache.scoring_temperature)
            return LogitsView(remade, positions, self._compiled)
        if self._cache.source == "topk":
            labels = arrays.pop("label")
            return CoarseView(CoarseReference(labels, **arrays), positions, self._compiled)
        return ChosenView(arrays["label"], positions, self._compiled)


class CoarseView(ReferenceView):
    """The view from the tokens and samples of a "topk" cache."""

    def __init__(self, kept: CoarseReference, positions: ResponsePositions, compiled: bool) -> None:
        self._kept, self._positions, self._compiled = kept, positions, compiled

    def log_probs(self) -> torch.Tensor:
        return self._kept.labels

    def future_policy(self, logits: SelectedRows, lam: float) -> dict[str, torch.Tensor]:
        labels = self._positions.labels
        estimate = coarse_future_policy(logits, self._kept, labels, lam, compiled=self._compiled)
        return {
            "future_log_probs": estimate.log_probs,
            "future_error": estimate.error,
            "future_missed": estimate.missed,
        }


class ChosenView(ReferenceView):
    """The view from the label's log-probability alone: the future policy without its normaliser."""

    def __init__(self, labels: torch.Tensor, positions: ResponsePositions, compiled: bool) -> None:
        self._labels, self._positions, self._compiled = labels, positions, compiled

    def log_probs(self) -> torch.Tensor:
        return self._labels

    def future_policy(self, logits: SelectedRows, lam: float) -> dict[str, torch.Tensor]:
        policy = label_log_probs(logits, self._positions.labels, compiled=self._compiled)
        return {"future_log_probs": (1 + lam) * policy - lam * self._labels}


class HiddenStates:
    """The input of a model's head, the last hidden states of its latest forward pass, until it is closed."""

    def __init__(self, model: Any) -> None:
        self._states: torch.Tensor | None = None
        self._hook = model.get_output_embeddings().register_forward_pre_hook(self._keep)

    def _keep(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._states = inputs[0].detach()

    def packed(self, data: TensorDict) -> torch.Tensor:
        """By packed position of the micro-batch, (N, d)."""
        assert self._states is not None
        return packed(self._states, data)

    def close(self) -> None:
        self._hook.remove()


class Recorder:
    """A loss that trains nothing: it notes what a cache of the given source holds, row by row of a pass.

    Args:
        source: the cache's.
        k, samples: for "topk".
        model: whose head's input is the last hidden state; for "hidden".
        compare: the temperature of the pass, whose first logits are then compared with what will be made of the hidden
            states; None: they were before.
    """

    def __init__(
        self,
        source: str,
        k: int,
        samples: int,
        model: Any = None,
        compare: float | None = None,
    ) -> None:
        self._source, self._k, self._samples = source, k, samples
        self._model, self._compare = model, compare
        self._hidden = None if model is None else HiddenStates(model)
        self.rows: list[int] = []
        self.lengths: list[int] = []
        self._arrays: list[dict[str, torch.Tensor]] = []

    def __call__(self, data: TensorDict | None = None, student_logits: torch.Tensor | None = None, **_: Any) -> Any:
        assert data is not None
        if student_logits is None:
            return torch.zeros((), device=data["input_ids"].device), {}
        positions = ResponsePositions.of(data)
        self.rows += positions.rows
        self.lengths += positions.lengths
        logits = positions.select(student_logits.squeeze(0))
        self._arrays.append({name: a.cpu() for name, a in self._note(logits, positions, data).items()})
        return {}

    def _note(self, logits: SelectedRows, positions: ResponsePositions, data: TensorDict) -> dict[str, torch.Tensor]:
        if self._source == "chosen":
            return {"label": label_log_probs(logits, positions.labels)}
        if self._source == "topk":
            arrays = dict(vars(coarsen(logits, positions.labels, self._k, self._samples).stored()))
            return {"label": arrays.pop("labels"), **arrays}
        assert self._hidden is not None
        hidden = self._hidden.packed(data)[positions.index]
        if self._compare is not None:
            require_same_logits(self._model, logits, hidden, self._compare)
            self._compare = None
        return {"hidden": hidden}

    def arrays(self) -> dict[str, torch.Tensor]:
        """Everything noted, one row after another."""
        return {name: torch.cat([found[name] for found in self._arrays]) for name in self._arrays[0]}

    def close(self) -> None:
        if self._hidden is not None:
            self._hidden.close()


def packed(values: torch.Tensor, data: TensorDict) -> torch.Tensor:
    """(1, N, ...) of an engine without padding, or (B, T, ...) padded on the right, to (N, ...)."""
    # Of Ulysses' ranks each has a part of the sequence, and always one row.
    if values.shape[0] == 1:
        return values[0]
    lengths = data["input_ids"].offsets().diff().tolist()
    return torch.cat([row[:length] for row, length in zip(values, lengths, strict=True)])
