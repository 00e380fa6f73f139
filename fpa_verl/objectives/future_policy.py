"""The future policy of FPA (arXiv 2509.19893, Eq. 3-5), extrapolated in logit space."""

from __future__ import annotations

import torch

# Float32 elements of one work chunk: 64 Mi elements are 256 MiB, or 441 tokens of a
# 151,936-token vocabulary. Only one chunk of this size is ever alive beside the logits.
CHUNK_ELEMENTS = 1 << 26


def _check(logits: torch.Tensor, ref_logits: torch.Tensor, labels: torch.Tensor, lam: float) -> None:
    if logits.dim() != 2 or logits.shape != ref_logits.shape:
        raise ValueError(
            f"logits and ref_logits must share one shape (N, V); got {tuple(logits.shape)} "
            f"and {tuple(ref_logits.shape)}"
        )
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"labels must have shape ({logits.shape[0]},); got {tuple(labels.shape)}")
    if not lam >= 0:
        raise ValueError(f"lam must be at least 0; got {lam}")


@torch.no_grad()
def future_log_probs(
    logits: torch.Tensor,
    ref_logits: torch.Tensor,
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
    _check(logits, ref_logits, labels, lam)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    out = torch.empty(labels.shape, dtype=dtype, device=logits.device)
    step = max(1, chunk_elements // logits.shape[1])
    for start in range(0, logits.shape[0], step):
        part = slice(start, start + step)
        # The copy makes the in-place steps safe whatever the dtype of the logits.
        future = logits[part].to(dtype=dtype, copy=True)
        if lam:
            future.mul_(1 + lam).sub_(ref_logits[part].to(dtype), alpha=lam)
        chosen = future.gather(-1, labels[part].unsqueeze(-1)).squeeze(-1)
        out[part] = chosen - torch.logsumexp(future, dim=-1)
    return out


def log_normaliser(log_probs: torch.Tensor, ref_log_probs: torch.Tensor, lam: float) -> torch.Tensor:
    """The log of Z_t:  log Z_t = log sum_v pi_theta(v)^(1+lam) pi_ref(v)^(-lam), shape (N,) from (N, V) log-probs.

    Never negative (Jensen): leaving it out over-estimates the future policy.
    """
    return torch.logsumexp((1 + lam) * log_probs - lam * ref_log_probs, dim=-1)
