"""What a cache keeps of the reference, and the future policy from that: its normaliser is bounded from below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fpa_verl.objectives.future_policy import check_shapes
from fpa_verl.objectives.logits import Logits, Rows, choose, chunks, rows_of, work_dtype, worked


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
    ref_logits: Logits | torch.Tensor, labels: torch.Tensor, k: int, *, chunk_elements: int | None = None
) -> CoarseReference:
    """Keep the label and the k - 1 or k most likely tokens of each position, (N, V) -> `CoarseReference` with K = k.

    Where the label is not among the k most likely, it takes the place of the last of them.

    Raises:
        ValueError: k is not between 1 and V.
    """
    check_shapes(ref_logits, labels, 0.0)
    vocabulary = ref_logits.shape[1]
    if not 1 <= k <= vocabulary:
        raise ValueError(f"k must be between 1 and the vocabulary's {vocabulary}; got {k}")
    parts = []
    for part in chunks(ref_logits, chunk_elements):
        log_probs = worked(rows_of(ref_logits, part)).log_softmax(-1)
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
    logits: Logits | torch.Tensor, reference: CoarseReference, labels: torch.Tensor, lam: float, **options: Any
) -> torch.Tensor:
    """The `log_probs` of `coarse_future_policy`, (N,)."""
    return coarse_future_policy(logits, reference, labels, lam, **options).log_probs


def _tail_mass(logits: Rows, tokens: torch.Tensor) -> torch.Tensor:
    """Logsumexp of all logits but those of the tokens, (n, V), (n, K) -> (n,); summed, not subtracted from all."""
    rows = worked(logits)
    is_copy = rows is not logits.tensor
    return (rows.scatter_ if is_copy else rows.scatter)(-1, tokens, -torch.inf).logsumexp(-1)


@torch.no_grad()
def coarse_future_policy(
    logits: Logits | torch.Tensor,
    reference: CoarseReference,
    labels: torch.Tensor,
    lam: float,
    *,
    chunk_elements: int | None = None,
    compiled: bool = False,
) -> CoarseEstimate:
    """`future_log_probs` with the normaliser of the coarse-grained distributions.

        log pi_hat(y_t) = (1+lam) log pi_theta(y_t) - lam log pi_ref(y_t) - log Z^_t
        Z^_t = sum over the K tokens and the tail of  P_theta^(1+lam) P_ref^(-lam)

    By the data-processing inequality 1 <= Z^_t <= Z_t, and Z^_t grows with K: the result never falls
    below the exact one. One pass over the vocabulary.

    Args:
        logits: h_theta, (N, V).
        reference: of the same N positions, at the same scoring temperature.
        labels: (N,).
        lam: extrapolation strength.
        chunk_elements: as in `future_log_probs`.
        compiled: as in `future_log_probs`.

    Returns:
        Detached.
    """
    check_shapes(logits, labels, lam)
    dtype = work_dtype(logits.dtype)
    log_probs, refinement = (torch.empty(labels.shape, dtype=dtype, device=logits.device) for _ in range(2))
    tail_mass = choose(_tail_mass, compiled=compiled)
    for part in chunks(logits, chunk_elements):
        rows, tokens = rows_of(logits, part), reference.tokens[part].long()
        kept = _at(rows, tokens).to(dtype)
        chosen = _at(rows, labels[part].unsqueeze(-1)).squeeze(-1).to(dtype)
        tail = tail_mass(rows, tokens)
        norm = torch.logaddexp(kept.logsumexp(-1), tail)
        kept, tail = kept - norm.unsqueeze(-1), tail - norm
        ref_kept, ref_tail = reference.log_probs[part].to(dtype), reference.tail[part].to(dtype)
        log_z = _coarse_log_normaliser(kept, tail, ref_kept, ref_tail, lam)
        log_probs[part] = (1 + lam) * (chosen - norm) - lam * reference.labels[part].to(dtype) - log_z
        refinement[part] = log_z - _half_as_fine(kept, tail, ref_kept, ref_tail, lam)
    return CoarseEstimate(log_probs, refinement)


def _at(rows: Rows, tokens: torch.Tensor) -> torch.Tensor:
    """(n, V) rows at (n, K) tokens."""
    return rows.tensor.gather(-1, tokens) if rows.at is None else rows.tensor[rows.at.unsqueeze(-1), tokens]


def _half_as_fine(
    kept: torch.Tensor, tail: torch.Tensor, ref_kept: torch.Tensor, ref_tail: torch.Tensor, lam: float
) -> torch.Tensor:
    """Log Z^ of the first K/2 tokens, (N,), the others in the tail."""
    half = kept.shape[1] // 2
    if not half:
        return _coarse_log_normaliser(kept, tail, ref_kept, ref_tail, lam)
    wider, ref_wider = (
        torch.logaddexp(mass, tokens[:, half:].logsumexp(-1)) for tokens, mass in ((kept, tail), (ref_kept, ref_tail))
    )
    return _coarse_log_normaliser(kept[:, :half], wider, ref_kept[:, :half], ref_wider, lam)


def _coarse_log_normaliser(
    kept: torch.Tensor, tail: torch.Tensor, ref_kept: torch.Tensor, ref_tail: torch.Tensor, lam: float
) -> torch.Tensor:
    """Log Z^, (N,), from log-probs of the kept tokens, (N, K), and of the tails, (N,)."""
    terms = ((1 + lam) * kept - lam * ref_kept).logsumexp(-1)
    # A tail that is empty on both sides adds nothing; -inf + inf would be NaN.
    rest = torch.where(tail == -torch.inf, tail, (1 + lam) * tail - lam * ref_tail)
    return torch.logaddexp(terms, rest)
