"""The future policy of FPA (arXiv 2509.19893, Eq. 3-5), extrapolated in logit space.

Exact from the reference's logits; or, from what a cache holds of the reference, with its normaliser
bounded from below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

# Float32 elements of one work chunk: 64 Mi elements are 256 MiB, or 441 tokens of a
# 151,936-token vocabulary. Only one chunk of this size is ever alive beside the logits.
CHUNK_ELEMENTS = 1 << 26


class SelectedRows:
    """Rows of (N, V) logits by index, (M, V), that are copied only chunk by chunk as they are read.

    Args:
        logits: (N, V).
        index: (M,).
    """

    def __init__(self, logits: torch.Tensor, index: torch.Tensor) -> None:
        self._logits, self._index = logits, index
        self.shape = torch.Size((len(index), logits.shape[1]))
        self.device, self.dtype = logits.device, logits.dtype

    def __getitem__(self, part: slice) -> torch.Tensor:
        return self._logits[self._index[part]]


class RemadeLogits:
    """(M, V) logits made again from last hidden states, chunk by chunk as they are read.

    Args:
        hidden: (M, d).
        head: (V, d), the output embeddings of the model that gave the hidden states.
        temperature: what the logits are divided by.
    """

    def __init__(self, hidden: torch.Tensor, head: torch.Tensor, temperature: float) -> None:
        self._hidden, self._head, self._temperature = hidden, head, temperature
        self.shape = torch.Size((len(hidden), len(head)))
        self.device, self.dtype = hidden.device, head.dtype

    def __getitem__(self, part: slice) -> torch.Tensor:
        return torch.nn.functional.linear(self._hidden[part], self._head).div_(self._temperature)


class Logits(Protocol):
    """(N, V) logits: a tensor, or whatever has its shape and gives the rows of a slice."""

    @property
    def shape(self) -> torch.Size: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def device(self) -> torch.device: ...
    def __getitem__(self, part: slice) -> torch.Tensor: ...


def _check(logits: Logits, labels: torch.Tensor, lam: float) -> None:
    if len(logits.shape) != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits must have shape (N, V) and labels (N,); got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if not lam >= 0:
        raise ValueError(f"lam must be at least 0; got {lam}")


def _work_dtype(logits: Logits) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _chunks(logits: Logits, elements: int) -> Iterator[slice]:
    """Slices of the rows of (N, V) logits, each of at most `elements` elements, or one row."""
    rows, width = logits.shape
    step = max(1, elements // width)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


@torch.no_grad()
def future_log_probs(
    logits: Logits,
    ref_logits: Logits,
    labels: torch.Tensor,
    lam: float,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> torch.Tensor:
    """Log-probability of each label under the future policy, normaliser included (Eq. 4).

        pi_hat(. | x, y_<t) = softmax((1 + lam) h_theta - lam h_ref)

    Softmax ignores a constant added to a row, so raw logits serve as well as log-probabilities
    and log Z_t never has to be formed: it is what remains of the logsumexp.

    Args:
        logits: h_theta, shape (N, V). Read, never written.
        ref_logits: h_ref at the same positions and scoring temperature, shape (N, V).
        labels: the token that follows each position, shape (N,).
        lam: extrapolation strength; 0 gives the policy itself.
        chunk_elements: float32 elements to work on at a time; bounds the extra memory.

    Returns:
        log pi_hat(labels), shape (N,), detached; float64 for float64 logits, else float32.

    Raises:
        ValueError: shapes disagree, or lam is negative or NaN.
    """
    _check(logits, labels, lam)
    if ref_logits.shape != logits.shape:
        raise ValueError(
            f"logits and ref_logits must share one shape (N, V); got {tuple(logits.shape)} and "
            f"{tuple(ref_logits.shape)}"
        )
    dtype = _work_dtype(logits)
    out = torch.empty(labels.shape, dtype=dtype, device=logits.device)
    for part in _chunks(logits, chunk_elements):
        # The copy makes the in-place steps safe whatever the dtype of the logits.
        future = logits[part].to(dtype=dtype, copy=True)
        if lam:
            future.mul_(1 + lam).sub_(ref_logits[part].to(dtype), alpha=lam)
        chosen = future.gather(-1, labels[part].unsqueeze(-1)).squeeze(-1)
        out[part] = chosen - torch.logsumexp(future, dim=-1)
    return out


def label_log_probs(logits: Logits, labels: torch.Tensor, *, chunk_elements: int = CHUNK_ELEMENTS) -> torch.Tensor:
    """Log-probability of each label under the policy of the logits, (N, V), (N,) -> (N,), detached."""
    return future_log_probs(logits, logits, labels, 0.0, chunk_elements=chunk_elements)


def log_normaliser(log_probs: torch.Tensor, ref_log_probs: torch.Tensor, lam: float) -> torch.Tensor:
    """The log of Z_t:  log Z_t = log sum_v pi_theta(v)^(1+lam) pi_ref(v)^(-lam), shape (N,) from (N, V) log-probs.

    Never negative (Jensen): leaving it out over-estimates the future policy.
    """
    return torch.logsumexp((1 + lam) * log_probs - lam * ref_log_probs, dim=-1)


@dataclass(frozen=True)
class CoarseReference:
    """What is kept of the reference at N positions: K tokens, the label among them, and the rest as one bucket.

    Attributes:
        labels: log pi_ref of the label, (N,) float32.
        tokens: distinct token ids, (N, K); the label and the most likely others.
        log_probs: log pi_ref of `tokens`, (N, K).
        tail: log of the mass of all other tokens, (N,) float32; -inf where K is the vocabulary.
    """

    labels: torch.Tensor
    tokens: torch.Tensor
    log_probs: torch.Tensor
    tail: torch.Tensor


@torch.no_grad()
def coarsen(
    ref_logits: Logits, labels: torch.Tensor, k: int, *, chunk_elements: int = CHUNK_ELEMENTS
) -> CoarseReference:
    """Keep the label and the k - 1 or k most likely tokens of each position, (N, V) -> `CoarseReference` with K = k.

    Where the label is not among the k most likely, it takes the place of the last of them.

    Raises:
        ValueError: k is not between 1 and V.
    """
    _check(ref_logits, labels, 0.0)
    vocabulary = ref_logits.shape[1]
    if not 1 <= k <= vocabulary:
        raise ValueError(f"k must be between 1 and the vocabulary's {vocabulary}; got {k}")
    dtype = _work_dtype(ref_logits)
    parts = []
    for part in _chunks(ref_logits, chunk_elements):
        log_probs = ref_logits[part].to(dtype).log_softmax(-1)
        label = labels[part].unsqueeze(-1)
        tokens = log_probs.topk(k, dim=-1).indices
        missing = (tokens != label).all(-1)
        tokens[missing, -1] = label[missing, 0]
        kept = log_probs.gather(-1, tokens)
        chosen = log_probs.gather(-1, label).squeeze(-1)
        tail = log_probs.scatter_(-1, tokens, -torch.inf).logsumexp(-1)
        parts.append((chosen, tokens, kept, tail))
    return CoarseReference(*(torch.cat(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class CoarseEstimate:
    """The future policy from a `CoarseReference`.

    Attributes:
        log_probs: log pi_hat of the labels, (N,), from above.
        refinement: (N,), how much log Z^ grew from K/2 to K tokens: never negative, and a sign of how
            much more there is to come. 0 where K is 1.
    """

    log_probs: torch.Tensor
    refinement: torch.Tensor


def coarse_future_log_probs(
    logits: Logits, reference: CoarseReference, labels: torch.Tensor, lam: float, **options: int
) -> torch.Tensor:
    """The `log_probs` of `coarse_future_policy`, (N,)."""
    return coarse_future_policy(logits, reference, labels, lam, **options).log_probs


@torch.no_grad()
def coarse_future_policy(
    logits: Logits,
    reference: CoarseReference,
    labels: torch.Tensor,
    lam: float,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> CoarseEstimate:
    """`future_log_probs` with the normaliser of the coarse-grained distributions.

        log pi_hat(y_t) = (1+lam) log pi_theta(y_t) - lam log pi_ref(y_t) - log Z^_t
        Z^_t = sum over the K tokens and the tail of  P_theta^(1+lam) P_ref^(-lam)

    By the data-processing inequality 1 <= Z^_t <= Z_t, and Z^_t grows with K: the result never falls
    below the exact one. One pass over the vocabulary, whose tail is summed and not subtracted from 1.

    Args:
        logits: h_theta, (N, V).
        reference: of the same N positions, at the same scoring temperature.
        labels: (N,).
        lam: extrapolation strength.
        chunk_elements: as in `future_log_probs`.

    Returns:
        Detached.
    """
    _check(logits, labels, lam)
    dtype = _work_dtype(logits)
    log_probs, refinement = (torch.empty(labels.shape, dtype=dtype, device=logits.device) for _ in range(2))
    half = reference.tokens.shape[1] // 2
    for part in _chunks(logits, chunk_elements):
        rest = logits[part].to(dtype=dtype, copy=True)
        tokens = reference.tokens[part].long()
        kept, chosen = rest.gather(-1, tokens), rest.gather(-1, labels[part].unsqueeze(-1)).squeeze(-1)
        tail = rest.scatter_(-1, tokens, -torch.inf).logsumexp(-1)
        norm = torch.logaddexp(kept.logsumexp(-1), tail)
        kept, tail = kept - norm.unsqueeze(-1), tail - norm
        ref_kept, ref_tail = reference.log_probs[part].to(dtype), reference.tail[part].to(dtype)
        log_z = _coarse_log_normaliser(kept, tail, ref_kept, ref_tail, lam)
        log_probs[part] = (1 + lam) * (chosen - norm) - lam * reference.labels[part].to(dtype) - log_z
        if half:
            wider, ref_wider = (
                torch.logaddexp(mass, tokens_[:, half:].logsumexp(-1))
                for tokens_, mass in ((kept, tail), (ref_kept, ref_tail))
            )
            coarser = _coarse_log_normaliser(kept[:, :half], wider, ref_kept[:, :half], ref_wider, lam)
            refinement[part] = log_z - coarser
        else:
            refinement[part] = 0.0
    return CoarseEstimate(log_probs, refinement)


def _coarse_log_normaliser(
    kept: torch.Tensor, tail: torch.Tensor, ref_kept: torch.Tensor, ref_tail: torch.Tensor, lam: float
) -> torch.Tensor:
    """Log Z^, (N,), from log-probs of the kept tokens, (N, K), and of the tails, (N,)."""
    terms = ((1 + lam) * kept - lam * ref_kept).logsumexp(-1)
    # A tail that is empty on both sides adds nothing; -inf + inf would be NaN.
    rest = torch.where(tail == -torch.inf, tail, (1 + lam) * tail - lam * ref_tail)
    return torch.logaddexp(terms, rest)
