"""The weight of a mix of two gradients that minimises its mean squared error (BVPO, arXiv 2510.05095).

    g_c = alpha g_t + (1 - alpha) g_e

g_t is the gradient on pairs with sampled traces, g_e that on pairs with empty ones, and mu the marginal one: of the
loss whose log-ratios are those of answers, traces summed out. With b = E[g] - mu, and S the covariance of one pair's
gradient, a batch of n pairs has

    M_t = |b_t|^2 + tr S_t / n       M_e = |b_e|^2 + tr S_e / n       C = b_t.b_e + tr S_te / n
    E|g_c - mu|^2 = alpha^2 M_t + (1 - alpha)^2 M_e + 2 alpha (1 - alpha) C
    alpha_unc = (M_e - C) / (M_t + M_e - 2C),       where  M_t + M_e - 2C = E|g_t - g_e|^2

The paper's, as its public reviews restate it: the mix; that noise of traces counts alpha^2 in it (Theorem 1);
alpha_unc, for E|g_t - g_e|^2 > 0, and its clipping to [0, 1] (Theorem 2); an error of at most min(M_t, M_e)
(Corollary 1). Its experiments set alpha to 0.5 by hand, for mu is unknown.

Ours: the moments estimated from gradients of single pairs (`estimate`), a batch's from one pair's (`Moments.at`), any
range to clip to, and what is done where a squared bias comes out negative or E|g_t - g_e|^2 is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from statistics import fmean

import torch

# Where every weight is as good as any other: what the paper's experiments set.
INDIFFERENT = 0.5
# What E|g_t - g_e|^2 must be of M_t + M_e to be more than rounding.
NEGLIGIBLE = 1e-12
# Parts of the pairs of which the jackknife leaves one out at a time.
PARTS = 20
# Columns whose inner products are taken at a time, in float64.
COLUMNS = 1 << 16
# Pairs of a kind: two are left when one is left out.
FEWEST = 3


@dataclass(frozen=True)
class Moments:
    """Bias and variance of both gradients against the marginal one; variances are traces of covariances.

    An unbiased estimate of a squared bias may be negative, and one of b_t.b_e larger than the two biases allow. The
    errors below, and what follows from them, take the nearest that there can be: 0, and +-|b_t| |b_e|.

    Attributes:
        trace_bias: |b_t|^2.
        trace_variance: tr S_t of one pair.
        empty_bias: |b_e|^2.
        empty_variance: tr S_e of one pair.
        cross_bias: b_t.b_e.
        cross_variance: tr S_te, of a pair of each; 0 where the two are drawn independently.

    Raises:
        ValueError: one of them is not finite, or a variance is negative.
    """

    trace_bias: float
    trace_variance: float
    empty_bias: float
    empty_variance: float
    cross_bias: float
    cross_variance: float = 0.0

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, astuple(self))):
            raise ValueError(f"moments of gradients must be finite: {self}")
        if self.trace_variance < 0 or self.empty_variance < 0:
            raise ValueError(f"the variance of a gradient is not negative: {self}")

    def at(self, pairs: int, empty_pairs: int | None = None) -> Moments:
        """Those of mean gradients over so many pairs with traces, and as many with empty ones where not said otherwise.

        Biases stay. Of batches of two sizes, the smaller is taken to be drawn with the first of the larger.
        """
        empty_pairs = pairs if empty_pairs is None else empty_pairs
        if pairs < 1 or empty_pairs < 1:
            raise ValueError(f"a batch has at least one pair of each; got {pairs} and {empty_pairs}")
        return replace(
            self,
            trace_variance=self.trace_variance / pairs,
            empty_variance=self.empty_variance / empty_pairs,
            cross_variance=self.cross_variance / max(pairs, empty_pairs),
        )

    @property
    def trace_error(self) -> float:
        """M_t = E|g_t - mu|^2."""
        return max(0.0, self.trace_bias) + self.trace_variance

    @property
    def empty_error(self) -> float:
        """M_e = E|g_e - mu|^2."""
        return max(0.0, self.empty_bias) + self.empty_variance

    @property
    def cross_error(self) -> float:
        """C = E[(g_t - mu).(g_e - mu)]."""
        most = math.sqrt(max(0.0, self.trace_bias) * max(0.0, self.empty_bias))
        return max(-most, min(most, self.cross_bias)) + self.cross_variance

    @property
    def distance(self) -> float:
        """M_t + M_e - 2C = E|g_t - g_e|^2."""
        return self.trace_error + self.empty_error - 2 * self.cross_error

    def error(self, alpha: float) -> float:
        """E|g_c - mu|^2 at a weight."""
        cross = 2 * alpha * (1 - alpha) * self.cross_error
        return alpha**2 * self.trace_error + (1 - alpha) ** 2 * self.empty_error + cross

    def unclipped(self) -> float:
        """alpha_unc, the weight of g_t that minimises `error`, below 0 or above 1 where that is so.

        Where `distance` is 0 both gradients are the same in every draw, and so is any mix of them: 0.5.
        """
        if self.distance <= NEGLIGIBLE * (self.trace_error + self.empty_error):
            return INDIFFERENT
        return (self.empty_error - self.cross_error) / self.distance

    def alpha(self, low: float = 0.0, high: float = 1.0) -> float:
        """The weight of g_t in [low, high] that minimises `error`.

        Raises:
            ValueError: not 0 <= low <= high <= 1.
        """
        if not 0 <= low <= high <= 1:
            raise ValueError(f"a weight lies in a range within [0, 1]; got [{low}, {high}]")
        return min(high, max(low, self.unclipped()))


@dataclass(frozen=True)
class Estimate:
    """Moments of one pair from the gradients of some.

    Attributes:
        moments: from all pairs.
        without: from all but one part of them, for every part.
    """

    moments: Moments
    without: tuple[Moments, ...]

    def standard_error(self, of: Callable[[Moments], float]) -> float:
        """Of anything that follows from the moments, by the jackknife: `lambda m: m.at(128).alpha()`.

        Where that is clipped for nearly all parts, the spread that is left says nothing of how far beyond it lies. Nor
        does it show what a random projection to m columns adds, to each moment some sqrt(2 / m) of it.
        """
        values = [of(moments) for moments in self.without]
        mean = fmean(values)
        return math.sqrt((1 - 1 / len(values)) * sum((value - mean) ** 2 for value in values))


def estimate(trace: torch.Tensor, empty: torch.Tensor, marginal: torch.Tensor, *, matched: bool = False) -> Estimate:
    """Unbiased estimates of the moments from gradients of single pairs, or from random projections of them.

    Each is made of E[a].E[b], the mean of a_i.b_j over rows drawn independently: of different pairs, so that noise is
    never multiplied with itself. That is what two halves of the pairs give, averaged over all ways to halve them.

        |b_t|^2 = tt - 2 tm + mm        |b_e|^2 = ee - 2 em + mm        b_t.b_e = te - tm - em + mm
        tr S_t = E|g_t|^2 - tt          tr S_e = E|g_e|^2 - ee          tr S_te = E[g_t.g_e] - te

    Args:
        trace: gradients on pairs with sampled traces, (n, m). Pairs must be independent: one a prompt.
        empty: gradients on pairs with empty traces, (n', m), drawn independently of the others; or `matched`.
        marginal: estimates of the marginal gradient of the pairs of `trace`, row by row, (n, m). Biases are measured
            against their mean, which with K traces a pair (`k_trace`) is off mu by the order of 1/K, towards g_t: alpha
            comes out too high. 2 g_K less the mean of g_K/2 of either half of the traces is off by the next order.
        matched: row i of `empty` belongs to the draw of row i of `trace`.

    Raises:
        ValueError: shapes that do not go together, fewer than three pairs of a kind, or a gradient that is not finite.
    """
    _check(trace, empty, marginal, matched)
    n, n_empty = len(trace), len(empty)
    gram = _inner_products(torch.cat([trace, marginal, empty]))
    pairs, empties = (torch.arange(size, device=gram.device) for size in (n, n_empty))
    parts = min(PARTS, n, n_empty)
    # Neighbours, which may have more in common, are left out together.
    part, empty_part = pairs * parts // n, empties * parts // n_empty
    without = (_moments(gram, n, pairs[part != i], empties[empty_part != i], matched=matched) for i in range(parts))
    return Estimate(_moments(gram, n, pairs, empties, matched=matched), tuple(without))


def _check(trace: torch.Tensor, empty: torch.Tensor, marginal: torch.Tensor, matched: bool) -> None:
    shapes = f"{tuple(trace.shape)} with traces, {tuple(empty.shape)} with empty ones, {tuple(marginal.shape)} marginal"
    if trace.dim() != 2 or empty.dim() != 2 or marginal.shape != trace.shape or empty.shape[1] != trace.shape[1]:
        raise ValueError(f"gradients must be (n, m), (n', m) and (n, m); got {shapes}")
    if matched and empty.shape != trace.shape:
        raise ValueError(f"matched gradients come row by row; got {shapes}")
    if min(len(trace), len(empty)) < FEWEST:
        raise ValueError(f"moments and their errors take at least {FEWEST} pairs of each kind; got {shapes}")


def _inner_products(rows: torch.Tensor) -> torch.Tensor:
    """(n, m) -> (n, n), in float64."""
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for columns in rows.detach().split(COLUMNS, dim=1):
        part = columns.double()
        gram += part @ part.T
    return gram


def _moments(gram: torch.Tensor, n: int, pairs: torch.Tensor, empties: torch.Tensor, *, matched: bool) -> Moments:
    """From the inner products of n rows with traces, n marginal ones and the empty ones, and from which of them."""
    t, m, e = pairs, n + pairs, 2 * n + empties

    def apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Mean inner product of rows of different draws."""
        products = gram[a][:, b]
        if b is e and a is not e and not matched:
            return products.mean()
        return (products.sum() - products.trace()) / (len(a) * (len(a) - 1))

    tt, mm, ee, tm, te, me = (apart(a, b) for a, b in ((t, t), (m, m), (e, e), (t, m), (t, e), (m, e)))
    return Moments(
        trace_bias=(tt - 2 * tm + mm).item(),
        # Variances are below 0 by rounding alone.
        trace_variance=(gram[t, t].mean() - tt).clamp(min=0).item(),
        empty_bias=(ee - 2 * me + mm).item(),
        empty_variance=(gram[e, e].mean() - ee).clamp(min=0).item(),
        cross_bias=(te - tm - me + mm).item(),
        cross_variance=(gram[t, e].mean() - te).item() if matched else 0.0,
    )
