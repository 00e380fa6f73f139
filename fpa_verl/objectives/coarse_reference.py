"""What a cache keeps of the reference, and the future policy from that: a few tokens, and samples of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fpa_verl.objectives.future_policy import check_shapes
from fpa_verl.objectives.logits import Logits, Rows, choose, chunks, rows_of, work_dtype, worked

GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class CoarseReference:
    """What is kept of the reference at N positions: K tokens, the label among them, and M samples of the rest.

    Attributes:
        labels: log pi_ref of the label, (N,) float32.
        tokens: distinct token ids, (N, K); the label and the most likely others.
        log_probs: log pi_ref of `tokens`, (N, K).
        tail: log of the mass of all other tokens, (N,) float32; -inf where K is the vocabulary.
        samples: ids of tokens of the tail, (N, M), as often as they are likely; M may be 0.
        sample_log_probs: log pi_ref of `samples`, (N, M).
    """

    labels: torch.Tensor
    tokens: torch.Tensor
    log_probs: torch.Tensor
    tail: torch.Tensor
    samples: torch.Tensor
    sample_log_probs: torch.Tensor

    def stored(self) -> CoarseReference:
        """The same as a cache keeps it: ids in 4 bytes, the label's and the tail's log-prob in 4, all others in 2."""
        return CoarseReference(
            labels=self.labels.float(),
            tokens=self.tokens.int(),
            log_probs=self.log_probs.half(),
            tail=self.tail.float(),
            samples=self.samples.int(),
            sample_log_probs=self.sample_log_probs.half(),
        )


@torch.no_grad()
def coarsen(
    ref_logits: Logits | torch.Tensor,
    labels: torch.Tensor,
    k: int,
    samples: int = 0,
    *,
    chunk_elements: int | None = None,
) -> CoarseReference:
    """Keep the k most likely tokens of each position and samples of the others: (N, V) logits, (N,) labels.

    Where the label is not among the k most likely, it takes the place of the last of them. The samples are
    quantiles of the tail, its tokens in order of their ids: every token as often as it is likely, but spread more
    evenly than independent draws. Where the first lies goes around from position to position, without a seed.

    Raises:
        ValueError: k is not between 1 and V, or `samples` is negative.
    """
    check_shapes(ref_logits, labels, 0.0)
    vocabulary = ref_logits.shape[1]
    if not 1 <= k <= vocabulary:
        raise ValueError(f"k must be between 1 and the vocabulary's {vocabulary}; got {k}")
    if samples < 0:
        raise ValueError(f"samples must be at least 0; got {samples}")
    parts = []
    for part in chunks(ref_logits, chunk_elements):
        log_probs = worked(rows_of(ref_logits, part)).log_softmax(-1)
        label = labels[part].unsqueeze(-1)
        tokens = log_probs.topk(k, dim=-1).indices
        missing = (tokens != label).all(-1)
        tokens[missing, -1] = label[missing, 0]
        kept = log_probs.gather(-1, tokens)
        chosen = log_probs.gather(-1, label).squeeze(-1)
        rest = log_probs.scatter_(-1, tokens, -torch.inf)
        drawn = _quantiles(rest, samples, first_position=part.start)
        parts.append((chosen, tokens, kept, rest.logsumexp(-1), drawn, rest.gather(-1, drawn)))
    return CoarseReference(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _quantiles(log_probs: torch.Tensor, count: int, *, first_position: int) -> torch.Tensor:
    """Ids of `count` tokens, (n, V) -> (n, count): the cumulative distribution at equal distances."""
    n, vocabulary = log_probs.shape
    if not count:
        return torch.empty(n, 0, dtype=torch.long, device=log_probs.device)
    # Of a distribution without mass any token will do.
    peak = log_probs.amax(-1, keepdim=True).clamp(min=torch.finfo(log_probs.dtype).min)
    cumulative = (log_probs - peak).exp_().cumsum_(-1)
    position = torch.arange(first_position, first_position + n, device=log_probs.device, dtype=torch.float64)
    # Multiples of the golden ratio fill the unit interval evenly.
    offset = (position * GOLDEN_RATIO % 1).unsqueeze(-1)
    levels = (torch.arange(count, device=log_probs.device) + offset) / count
    found = torch.searchsorted(cumulative, levels.to(cumulative.dtype) * cumulative[:, -1:], right=True)
    return found.clamp(max=vocabulary - 1)


@dataclass(frozen=True)
class CoarseEstimate:
    """The future policy from a `CoarseReference`.

    Attributes:
        log_probs: log pi_hat of the labels, (N,); from above where there are no samples.
        error: standard error of that by the spread of the samples, (N,); NaN for fewer than two.
        missed: by how much it is too high, (N,), for tokens that the policy has come to like and no sample shows:
            cautiously, and 0 where the samples account for the policy's tail up to chance. NaN where `error` is.
    """

    log_probs: torch.Tensor
    error: torch.Tensor
    missed: torch.Tensor


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
    """`future_log_probs` with a normaliser from K tokens and samples of the rest. One pass over the vocabulary.

        log pi_hat(y_t) = (1+lam) log pi_theta(y_t) - lam log pi_ref(y_t) - log Z^_t
        Z^_t = sum over the K tokens of  pi_theta^(1+lam) pi_ref^(-lam)
               + P_theta^(1+lam) P_ref^(-lam) (1 + mean over the samples of  b(rho))

    P is the mass of the tail, rho = (pi_theta / pi_ref) / (P_theta / P_ref) at a sample, and
    b(x) = x^(1+lam) - 1 - (1+lam) (x - 1). In the tail E_ref[rho] = 1, so that E_ref[1 + b] = E_ref[rho^(1+lam)],
    what the tail adds to Z_t: over the draw of the samples Z^_t has no bias, and its logarithm one of second
    order. The linear term is a control variate: where policy and reference are the same in the tail, up to a
    factor, nothing is left to chance.

    That E_ref[rho] = 1 also tells of tokens that no sample shows: let the samples' mean fall short of it by s. What M
    samples miss holds about 1/M of the reference's tail, or less, and adds s^(1+lam) M^lam to E_ref[rho^(1+lam)] at
    least (Jensen).

    Without samples the tail counts as one bucket, and by the data-processing inequality 1 <= Z^_t <= Z_t, growing
    with K: the result never falls below the exact one. As b is never negative, samples only take away from that.

    Args:
        logits: h_theta, (N, V).
        reference: what is kept at the same N positions, at the same scoring temperature.
        labels: (N,).
        lam: extrapolation strength.
        chunk_elements: elements to work on at a time, as in `future_log_probs`.
        compiled: whether torch compiles the work, as in `future_log_probs`.

    Returns:
        Detached.
    """
    check_shapes(logits, labels, lam)
    dtype = work_dtype(logits.dtype)
    log_probs, error, missed = (torch.empty(labels.shape, dtype=dtype, device=logits.device) for _ in range(3))
    tail_mass = choose(_tail_mass, compiled=compiled)
    for part in chunks(logits, chunk_elements):
        rows, tokens = rows_of(logits, part), reference.tokens[part].long()
        kept = _at(rows, tokens).to(dtype)
        chosen = _at(rows, labels[part].unsqueeze(-1)).squeeze(-1).to(dtype)
        tail = tail_mass(rows, tokens)
        norm = torch.logaddexp(kept.logsumexp(-1), tail)
        ref_tail = reference.tail[part].to(dtype)
        terms = ((1 + lam) * (kept - norm.unsqueeze(-1)) - lam * reference.log_probs[part].to(dtype)).logsumexp(-1)
        # A tail that is empty on both sides adds nothing; -inf + inf would be NaN.
        empty = tail == -torch.inf
        bucket = torch.where(empty, tail, (1 + lam) * (tail - norm) - lam * ref_tail)
        sampled = _at(rows, reference.samples[part].long()).to(dtype) - reference.sample_log_probs[part].to(dtype)
        spread, uncertainty, unseen = _spread(sampled - (tail - ref_tail).unsqueeze(-1), lam)
        log_z = torch.logaddexp(terms, bucket + torch.where(empty, 0, spread.log1p()))
        log_probs[part] = (1 + lam) * (chosen - norm) - lam * reference.labels[part].to(dtype) - log_z
        share = (bucket - log_z).exp()
        error[part] = torch.where(empty, 0, uncertainty * share)
        missed[part] = torch.where(empty, 0, (unseen * share).log1p())
    return CoarseEstimate(log_probs, error, missed)


def _spread(log_rho: torch.Tensor, lam: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean of b over (n, M) samples, its standard error, and what is missing in it at least; each (n,)."""
    n, count = log_rho.shape
    unknown = log_rho.new_full((n,), torch.nan)
    if not count:
        return log_rho.new_zeros(n), unknown, unknown
    log_rho = log_rho.double()
    b = (torch.expm1((1 + lam) * log_rho) - (1 + lam) * torch.expm1(log_rho)).clamp(min=0)
    if count == 1:
        return b.squeeze(-1), unknown, unknown
    rho = log_rho.exp()
    # Twice the standard error of the mean is put down to chance.
    short = (1 - rho.mean(-1) - 2 * rho.std(-1) / count**0.5).clamp(min=0)
    return b.mean(-1), b.std(-1) / count**0.5, short ** (1 + lam) * count**lam


def _at(rows: Rows, tokens: torch.Tensor) -> torch.Tensor:
    """(n, V) rows at (n, K) tokens."""
    return rows.tensor.gather(-1, tokens) if rows.at is None else rows.tensor[rows.at.unsqueeze(-1), tokens]
