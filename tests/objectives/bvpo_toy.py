"""A model small enough to list all that it can say: three traces, the first of them empty, and two answers.

Shape letters: P prompts, R = 3 traces, A = 2 answers (preferred, other), D = 9 parameters (3 logits of traces, then 2
of answers behind each). Several prompts have logits of their own under the reference, and the D parameters are added to
them by features of the prompt. Prompts are drawn uniformly, and the traces of a pair, one before each answer, from the
reference's posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch.func import jacrev
from torch.nn.functional import logsigmoid

from fpa_verl.objectives import Trajectories
from fpa_verl.objectives.mixing import Moments
from fpa_verl.roles import Roles

R, A, D = 3, 2, 9
EMPTY = 0


def log_joint(logits: torch.Tensor) -> torch.Tensor:
    """log pi(r, y), (..., D) -> (..., R, A)."""
    traces, answers = logits[..., :R], logits[..., R:].unflatten(-1, (R, A))
    return traces.log_softmax(-1).unsqueeze(-1) + answers.log_softmax(-1)


@dataclass(frozen=True)
class Toy:
    """A policy and its reference.

    Attributes:
        reference: the reference's logits, (P, D).
        features: what a prompt multiplies the parameters with, (P, D).
        added: the parameters, 0 at the reference, (D,).
        beta: DPO's.
    """

    reference: torch.Tensor
    features: torch.Tensor
    added: torch.Tensor
    beta: float = 0.5

    @property
    def prompts(self) -> int:
        return len(self.reference)

    def logits(self, added: torch.Tensor) -> torch.Tensor:
        """The policy's, (P, D)."""
        return self.reference + self.features * added

    @cached_property
    def posterior(self) -> torch.Tensor:
        """The reference's probability of a trace, given an answer, (P, R, A)."""
        return log_joint(self.reference).softmax(-2)

    @cached_property
    def drawn(self) -> torch.Tensor:
        """Probability of a prompt and a pair of traces, (P, R, R): of the preferred answer, and of the other."""
        return self.posterior[:, :, None, 0] * self.posterior[:, None, :, 1] / self.prompts

    def log_ratios(self, added: torch.Tensor) -> torch.Tensor:
        """log pi / pi_ref of traces and answers together, (P, R, A)."""
        return log_joint(self.logits(added)) - log_joint(self.reference)

    def answer_log_ratios(self, added: torch.Tensor) -> torch.Tensor:
        """The same of answers, traces summed out, (P, A)."""
        return log_joint(self.logits(added)).logsumexp(-2) - log_joint(self.reference).logsumexp(-2)

    def trace_losses(self, added: torch.Tensor) -> torch.Tensor:
        """DPO of every pair of traces, (P, R, R)."""
        ratios = self.log_ratios(added)
        return -logsigmoid(self.beta * (ratios[:, :, None, 0] - ratios[:, None, :, 1]))

    def empty_losses(self, added: torch.Tensor) -> torch.Tensor:
        """DPO with empty traces, (P,)."""
        return self.trace_losses(added)[:, EMPTY, EMPTY]

    def marginal_losses(self, added: torch.Tensor) -> torch.Tensor:
        """DPO of answers, (P,)."""
        preferred, other = self.answer_log_ratios(added).unbind(-1)
        return -logsigmoid(self.beta * (preferred - other))

    @cached_property
    def trace_gradients(self) -> torch.Tensor:
        """(P, R, R, D)."""
        return jacrev(self.trace_losses)(self.added)

    @cached_property
    def empty_gradients(self) -> torch.Tensor:
        """(P, D)."""
        return jacrev(self.empty_losses)(self.added)

    @cached_property
    def marginal_gradients(self) -> torch.Tensor:
        """(P, D)."""
        return jacrev(self.marginal_losses)(self.added)

    @property
    def mu(self) -> torch.Tensor:
        """The gradient wanted, (D,)."""
        return self.marginal_gradients.mean(0)

    def draws_of(self, traces: int) -> torch.Tensor:
        """All ways to draw K traces in turn, (R^K, K)."""
        return torch.cartesian_prod(*[torch.arange(R)] * traces).view(-1, traces)

    def k_trace_draws(self, traces: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Probability and gradient of every draw of K traces for either answer, (P, R^K, R^K) and one more, D."""
        draws = self.draws_of(traces)

        def log_ratios(added: torch.Tensor) -> torch.Tensor:
            return self.log_ratios(added).exp()[:, draws].mean(-2).log()

        preferred, other = log_ratios(self.added).unbind(-1)
        score, other_score = jacrev(log_ratios)(self.added).unbind(2)
        margins = preferred[:, :, None] - other[:, None]
        slopes = -self.beta * torch.sigmoid(-self.beta * margins)
        likely, other_likely = self.posterior[:, draws].prod(-2).unbind(-1)
        probability = likely[:, :, None] * other_likely[:, None] / self.prompts
        return probability, slopes[..., None] * (score[:, :, None] - other_score[:, None])

    def trajectories(
        self,
        added: torch.Tensor,
        prompts: torch.Tensor,
        traces: torch.Tensor,
        answers: torch.Tensor,
        roles: Roles,
        *,
        masked: bool = False,
    ) -> Trajectories:
        """Rows of two tokens, a trace and an answer; masked: the answer's counts alone."""
        tokens = []
        for logits in (self.logits(added), self.reference):
            trace, answer = logits[:, :R].log_softmax(-1), logits[:, R:].unflatten(-1, (R, A)).log_softmax(-1)
            tokens.append(torch.stack([trace[prompts, traces], answer[prompts, traces, answers]], -1))
        return Trajectories(
            log_probs=tokens[0],
            response_mask=torch.tensor([not masked, True]).expand(len(prompts), 2),
            rewards=1.0 - 2 * answers.double(),
            ref_log_probs=tokens[1],
            roles=roles,
        )

    def moments(self, *, matched: bool = False, target: torch.Tensor | None = None) -> Moments:
        """Exact ones of one pair, against `mu` or another target; matched: a prompt is drawn for both gradients."""
        target = self.mu if target is None else target
        off_trace, off_empty = self.trace_gradients - target, self.empty_gradients - target
        trace_bias = torch.einsum("prs,prsd->d", self.drawn, off_trace)
        empty_bias = off_empty.mean(0)
        trace_error = (self.drawn * off_trace.square().sum(-1)).sum()
        together = torch.einsum("prs,prsd,pd->", self.drawn, off_trace, off_empty)
        values = (
            trace_bias.square().sum(),
            trace_error - trace_bias.square().sum(),
            empty_bias.square().sum(),
            # Of one prompt 0, but for rounding.
            (off_empty.square().sum(-1).mean() - empty_bias.square().sum()).clamp(min=0),
            trace_bias @ empty_bias,
            (together - trace_bias @ empty_bias) if matched else torch.zeros(()),
        )
        return Moments(*(value.item() for value in values))


def one_prompt(added: torch.Tensor | None = None) -> Toy:
    """Traces (0, 1, -1), answers [(0, 0), (2, 0), (-1, 1)]; the policy at the reference unless something is added."""
    reference = torch.tensor([[0.0, 1, -1, 0, 0, 2, 0, -1, 1]], dtype=torch.float64)
    return Toy(reference, torch.ones_like(reference), torch.zeros_like(reference[0]) if added is None else added)


OFF = torch.tensor([0.5, -0.5, 0, 0.2, -0.2, 0, 0.3, 0.1, 0], dtype=torch.float64)


def several_prompts(prompts: int = 3) -> Toy:
    """References and features of any kind, the policy off the reference."""
    generator = torch.Generator().manual_seed(6)
    reference, features = (torch.randn(prompts, D, generator=generator, dtype=torch.float64) for _ in range(2))
    return Toy(1.5 * reference, 1 + features, OFF)


def sampled(
    toy: Toy, pairs: int, generator: torch.Generator, k_traces: tuple[torch.Tensor, torch.Tensor] | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of so many pairs: with traces, with empty ones at the same prompts, and marginal, (pairs, D) each.

    The marginal ones are exact, or of K traces drawn beside, where `k_trace_draws` are given.
    """

    def draw(probabilities: torch.Tensor) -> torch.Tensor:
        return torch.multinomial(probabilities, 1, replacement=True, generator=generator).squeeze(-1)

    prompts = torch.randint(toy.prompts, (pairs,), generator=generator)
    trace = toy.trace_gradients.flatten(1, 2)[prompts, draw(toy.drawn.flatten(1)[prompts])]
    if k_traces is None:
        return trace, toy.empty_gradients[prompts], toy.marginal_gradients[prompts]
    probability, gradients = k_traces
    marginal = gradients.flatten(1, 2)[prompts, draw(probability.flatten(1)[prompts])]
    return trace, toy.empty_gradients[prompts], marginal
