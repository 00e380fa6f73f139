"""Whether the future policy came true: a change of the policy against the change that came before it.

FPA extrapolates what has changed since the reference, h_hat = h_s + lambda (h_s - h_ref) (arXiv 2509.19893, Eq. 4). Of
a step s and a later step t, at every position and up to a constant there,

    a = h_s - h_ref        b = h_t - h_s        p = softmax(h_s)

and the policy of t is the future policy of s where b = lambda a. As tangents at pi_s, the two have the inner product
of Fisher's metric, which is their covariance under p; half of Var(b - lambda a) is the KL between pi_t and pi_hat to
second order. Least squares over positions:

    lambda    = sum Cov(a, b) / sum Var(a)
    explained = (sum Cov(a, b))^2 / (sum Var(a) sum Var(b))     the share of b that is lambda a
    at(l)     = 1 - sum Var(b - l a) / sum Var(b)               the same of any l; below 0: worse than no change

Where training moves linearly, h_t = h_ref + t v, lambda is (t - s) / s and explains everything.

Rounded logits err in a and, with the other sign, in b, which makes lambda too small as long as the policy has not moved
well beyond what rounding alone would: on bfloat16 logits that move linearly by 4 times its variance, by a third, by 15
times, by a tenth. A change of less than ten times is therefore no ground to predict from.

Shape letters: N positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from fpa_verl.objectives.logits import Logits, Rows, chunks, rows_of, worked

# Standard errors, within which of 0 a lambda is not told from it: 95 %.
TOLD = 1.96
# Share of the change that is explained: below the first no lambda predicts it, from the second on it came true.
PREDICTED, CAME_TRUE = 0.1, 0.5
# How many times the variance of rounding the policy is to have moved by.
BEYOND_ROUNDING = 10.0
# Types whose rounding is of no account here.
PRECISE = (torch.float32, torch.float64)


@torch.no_grad()
def moments(
    reference: Logits | torch.Tensor,
    policy: Logits | torch.Tensor,
    later: Logits | torch.Tensor,
    *,
    chunk_elements: int | None = None,
) -> torch.Tensor:
    """Var(a), Cov(a, b), Var(b), and what rounding adds to the first, at every position, (N, 4) in float64.

    All are under the policy.

    Args:
        reference: h_ref, (N, V).
        policy: h_s at the same positions, (N, V).
        later: h_t, likewise.
        chunk_elements: elements to work on at a time, as in `future_log_probs`.

    Raises:
        ValueError: the shapes differ.
    """
    if not (len(policy.shape) == 2 and reference.shape == policy.shape == later.shape):
        raise ValueError(
            "logits must share one shape (N, V); got "
            f"{tuple(reference.shape)}, {tuple(policy.shape)} and {tuple(later.shape)}"
        )
    out = torch.empty(policy.shape[0], 4, dtype=torch.float64, device=policy.device)
    for part in chunks(policy, chunk_elements):
        out[part] = _moments(*(rows_of(logits, part) for logits in (reference, policy, later)))
    return out


def _moments(reference: Rows, policy: Rows, later: Rows) -> torch.Tensor:
    now = worked(policy)
    p = now.softmax(-1)
    a, b = (_centred(change, p) for change in (now - worked(reference), worked(later) - now))
    found = [(p * x * y).sum(-1, dtype=torch.float64) for x, y in ((a, a), (a, b), (b, b))]
    rounding = _rounding(reference, p) + _rounding(policy, p)
    return torch.stack([*found, rounding], dim=-1)


def _rounding(logits: Rows, p: torch.Tensor) -> torch.Tensor:
    """Variance of what rounding has added to logits of few digits, uniform within half a unit of the last, (n,)."""
    dtype = logits.tensor.dtype
    if dtype in PRECISE:
        return torch.zeros(len(p), dtype=torch.float64, device=p.device)
    exponent = torch.frexp(worked(logits)).exponent - 1
    unit = torch.finfo(dtype).eps * torch.exp2(exponent.to(p.dtype))
    return (torch.where(p > 0, p * unit.square(), p.new_zeros(())) / 12).sum(-1, dtype=torch.float64)


def _centred(change: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    # What cannot come has no part, and its logits may be infinite.
    change = torch.where(p > 0, change, change.new_zeros(()))
    return change - (p * change).sum(-1, keepdim=True, dtype=torch.float64).to(change.dtype)


@dataclass(frozen=True)
class Foresight:
    """What the change up to a step says of the change from there.

    Attributes:
        lam: the best lambda.
        error: its standard error, over trajectories; NaN of one alone.
        spread: standard deviation over positions of their own best lambda, Cov / Var(a), weighted by Var(a).
        policy, both, future: sums of Var(a), Cov(a, b) and Var(b).
        rounding: of the first, what rounding would make by itself.
    """

    lam: float
    error: float
    spread: float
    policy: float
    both: float
    future: float
    rounding: float = 0.0

    @property
    def explained(self) -> float:
        """Share of the change that is explained at the best lambda."""
        return self.at(self.lam)

    def at(self, lam: float) -> float:
        """The same at any lambda."""
        return (2 * lam * self.both - lam**2 * self.policy) / self.future

    @property
    def predicts(self) -> bool:
        """Whether any lambda predicts it: one above 0, told from it, that explains a tenth at least.

        None does where the policy has hardly moved beyond what rounding would make of none.
        """
        moved = self.policy >= BEYOND_ROUNDING * self.rounding
        return moved and self.lam > TOLD * self.error and self.explained >= PREDICTED


def foresight(trajectories: Sequence[torch.Tensor]) -> Foresight | None:
    """From the `moments` at positions of independent trajectories, (n, 4) each; None where one change or both are none.

    The standard error is the jackknife's that leaves out one trajectory at a time.
    """
    each = torch.stack([one.double().sum(0) for one in trajectories])
    policy, both, future, rounding = (value.item() for value in each.sum(0))
    if not (policy > 0 and future > 0):
        return None
    variance, covariance, *_ = torch.cat(list(trajectories)).double().unbind(-1)
    moved = variance > 0
    lam = both / policy
    off = covariance[moved] / variance[moved] - lam
    spread = ((variance[moved] * off.square()).sum() / policy).sqrt().item()
    return Foresight(lam, _jackknife(each), spread, policy, both, future, rounding)


def _jackknife(each: torch.Tensor) -> float:
    """Standard error of sum Cov / sum Var(a), from the sums of every trajectory, (n, 4)."""
    n = len(each)
    if n == 1:
        return math.nan
    policy, both, *_ = (each.sum(0) - each).unbind(-1)
    without = both / policy
    return ((n - 1) / n * (without - without.mean()).square().sum()).sqrt().item()


def farthest(found: Iterable[tuple[float, float]]) -> float | None:
    """The largest best lambda of those that explain half of the change at least; None where none does.

    Args:
        found: best lambda and explained share, of several horizons that end at the same step.
    """
    return max((lam for lam, explained in found if explained >= CAME_TRUE), default=None)
