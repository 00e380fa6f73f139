"""The future policy of FPA (arXiv 2509.19893, Eq. 3-5), extrapolated in logit space: exact, from the logits of both."""

from __future__ import annotations

import torch

from fpa_verl.objectives.logits import Logits, Rows, choose, chunks, rows_of, work_dtype, worked

NO_LABEL = -(1 << 40)


def check_shapes(logits: Logits | torch.Tensor, labels: torch.Tensor, lam: float) -> None:
    """Raise ValueError for what is not (N, V) logits, (N,) labels and a strength of at least 0."""
    if len(logits.shape) != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits must have shape (N, V) and labels (N,); got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if not lam >= 0:
        raise ValueError(f"lam must be at least 0; got {lam}")


def _label_log_probs(logits: Rows, labels: torch.Tensor) -> torch.Tensor:
    return _chosen(worked(logits), labels)


def _chosen(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    # Without an `ignore_index`: every label counts, and -100 is an error.
    return -torch.nn.functional.cross_entropy(logits, labels.long(), reduction="none", ignore_index=NO_LABEL)


def _future_log_probs(logits: Rows, ref_logits: Rows, labels: torch.Tensor, lam: float) -> torch.Tensor:
    # h_ref + (1 + lam) (h_theta - h_ref): where both are the same and finite, exactly that.
    policy = worked(logits)
    return _chosen(torch.lerp(worked(ref_logits).to(policy.dtype), policy, 1 + lam), labels)


@torch.no_grad()
def future_log_probs(
    logits: Logits | torch.Tensor,
    ref_logits: Logits | torch.Tensor,
    labels: torch.Tensor,
    lam: float,
    *,
    chunk_elements: int | None = None,
    compiled: bool = False,
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
        chunk_elements: elements to work on at a time. The extra memory is at most four times as many float32,
            whatever N is; None: `logits.CHUNK_ELEMENTS`, by device.
        compiled: let torch compile the work on a chunk, which then takes one chunk in float32 at most.

    Returns:
        log pi_hat(labels), shape (N,), detached; float64 for float64 logits, else float32.

    Raises:
        ValueError: shapes disagree, or lam is negative or NaN.
    """
    check_shapes(logits, labels, lam)
    if ref_logits.shape != logits.shape:
        raise ValueError(
            f"logits and ref_logits must share one shape (N, V); got {tuple(logits.shape)} and "
            f"{tuple(ref_logits.shape)}"
        )
    if not lam:
        return label_log_probs(logits, labels, chunk_elements=chunk_elements, compiled=compiled)
    kernel = choose(_future_log_probs, compiled=compiled)
    out = torch.empty(labels.shape, dtype=work_dtype(logits.dtype), device=logits.device)
    for part in chunks(logits, chunk_elements):
        out[part] = kernel(rows_of(logits, part), rows_of(ref_logits, part), labels[part], lam)
    return out


@torch.no_grad()
def label_log_probs(
    logits: Logits | torch.Tensor, labels: torch.Tensor, *, chunk_elements: int | None = None, compiled: bool = False
) -> torch.Tensor:
    """Log-probability of each label under the policy of the logits, (N, V), (N,) -> (N,), detached."""
    check_shapes(logits, labels, 0.0)
    kernel = choose(_label_log_probs, compiled=compiled)
    out = torch.empty(labels.shape, dtype=work_dtype(logits.dtype), device=logits.device)
    for part in chunks(logits, chunk_elements):
        out[part] = kernel(rows_of(logits, part), labels[part])
    return out


def log_normaliser(log_probs: torch.Tensor, ref_log_probs: torch.Tensor, lam: float) -> torch.Tensor:
    """The log of Z_t:  log Z_t = log sum_v pi_theta(v)^(1+lam) pi_ref(v)^(-lam), shape (N,) from (N, V) log-probs.

    Never negative (Jensen): leaving it out over-estimates the future policy.
    """
    return torch.logsumexp((1 + lam) * log_probs - lam * ref_log_probs, dim=-1)
