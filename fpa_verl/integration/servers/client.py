"""A client of rollout servers: problems in, scored rollouts out. No trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from omegaconf import DictConfig
from transformers import PreTrainedTokenizerBase

from fpa_verl.integration.config.settings import markers_of
from fpa_verl.integration.safety.failures import nothing_generated
from fpa_verl.integration.servers.endings import Endings
from fpa_verl.integration.servers.verdicts import note_failures, returned_by_scorer
from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.prompts import stops_of
from fpa_verl.rollouts.traces import TraceReader
from fpa_verl.runs.progress import Tally

T = TypeVar("T")
# Names of the agent loops of `single_turn.py`.
SINGLE_TURN = "fpa_verl_single_turn"
SEEDED_SINGLE_TURN = "fpa_verl_seeded_single_turn"
# What verl says of a request that a server gave up.
ABORTED = ("aborted", "abort")
# Stands beside an answer for which more tokens were sampled than it has: how many.
GENERATED = "generated_tokens"
# Is told how many answers of those that were asked for together have arrived.
Arrived = Callable[[int], None]


def nobody(arrived: int) -> None:
    """Who asks for answers and does not watch them come."""


@dataclass(frozen=True)
class SamplingRequest:
    """How problems are put to the servers.

    Attributes:
        n: responses to each.
        validate: sample as `rollout.val_kwargs` says, not as `rollout` does.
        seeded: each response is drawn with a seed of its own.
        step: that of the model which the servers hold.
    """

    n: int
    validate: bool = False
    seeded: bool = False
    step: int = 0


@dataclass(frozen=True)
class Output:
    """One response as the servers give it.

    Attributes:
        place: position of the problem among those that were submitted together.
        sample: number of the response, from 0 to `n` - 1.
        log_probs: one a response token, under the model that sampled it; empty in an evaluation.
        score: the scorer's.
        verdict: what the scorer returned beside the score.
        beside: what verl's server says beside the tokens: the step of its weights.
    """

    place: int
    sample: int
    prompt_ids: list[int]
    response_ids: list[int]
    log_probs: list[float]
    score: float
    verdict: dict[str, Any]
    beside: dict[str, Any]


@dataclass(frozen=True)
class Rollout(Output):
    """A response, and what it is worth.

    Attributes:
        problem: that it answers.
        status: the scorer's.
        finish_reason: one of `FINISH_REASONS`.
        mode: how its prompt puts the problem, one of `MODES`.
        trace_tokens: how many at the beginning of the response are its trace.
    """

    problem: Problem
    status: str
    finish_reason: str
    mode: str
    trace_tokens: int


class Servers(Protocol):
    """Whoever samples and scores: `direct.DirectServers`, `agent_loops.AgentLoops`, or a test's."""

    def answer(
        self, problems: Sequence[Problem], request: SamplingRequest, first_samples: Sequence[int], arrived: Arrived
    ) -> list[Output]:
        """`request.n` responses to each problem, in any order; those that failed are missing."""

    def load(self, model: str) -> None:
        """Hold the weights of another model of the same architecture from here on."""


class RolloutClient:
    """Asks rollout servers, and knows whether they are alive.

    Args:
        servers: who answers.
        config: the recipe, which says how answers are sampled and whose scorer scored them.
        tokenizer: the model's.
        last_answered: a problem that was answered before: where a batch brings nothing, it shows whether servers are
            alive.
    """

    def __init__(
        self,
        servers: Servers,
        config: DictConfig,
        tokenizer: PreTrainedTokenizerBase,
        last_answered: Problem | None = None,
    ) -> None:
        self._servers, self._config, self._tokenizer = servers, config, tokenizer
        self._last_answered = last_answered
        self._stops = stops_of(config)
        self._traces = TraceReader(tokenizer, markers_of(config))
        self._endings = Endings(str(config.actor_rollout_ref.model.path), tokenizer)

    def answers(
        self,
        problems: Sequence[Problem],
        request: SamplingRequest,
        first_samples: Sequence[int] | None = None,
        arrived: Arrived = nobody,
    ) -> list[Rollout]:
        """`request.n` scored responses to each problem, in their order; those that failed to generate are missing.

        Args:
            problems: may hold one several times.
            request: how they are put.
            first_samples: which answer to its problem the first of each is: its seed goes by that.
            arrived: is told how many there are by now.

        Raises:
            IntegrationError: none came, and none comes to another problem either.
            ConfigError: the scorer does not keep its contract.
        """
        found = self._answers(problems, request, first_samples or [0] * len(problems), arrived)
        if found:
            self._last_answered = found[0].problem
        elif self._last_answered is None or not self._answers([self._last_answered], request, [0], nobody):
            raise nothing_generated()
        return found

    def _answers(
        self, problems: Sequence[Problem], request: SamplingRequest, first_samples: Sequence[int], arrived: Arrived
    ) -> list[Rollout]:
        outputs = self._servers.answer(problems, request, first_samples, arrived)
        note_failures((output.verdict for output in outputs), self._config)
        rollouts = [self._rollout(output, problems[output.place]) for output in outputs]
        return sorted(rollouts, key=lambda rollout: (rollout.place, rollout.sample))

    def _rollout(self, output: Output, problem: Problem) -> Rollout:
        return Rollout(
            **vars(output),
            problem=problem,
            status=returned_by_scorer(output.verdict, "status", self._config),
            finish_reason=self._endings.why(output.response_ids, self._stops),
            mode=self._traces.mode(output.prompt_ids),
            trace_tokens=self._traces.trace_tokens(output.prompt_ids, output.response_ids),
        )

    def load(self, model: str | Path) -> None:
        """Have the servers hold another model of the same architecture and tokenizer: answers are its own from here on.

        Prompts and scorer stay those of the recipe, and so does the engine, which takes the time of a start otherwise.

        Args:
            model: a folder in Hugging Face format that every node sees, or a name of the hub's.

        Raises:
            ConfigError: it is another architecture, or speaks other tokens; the servers hold what they held.
            IntegrationError: a server could not read it, and holds no model any more.
        """
        self._servers.load(str(model))

    def text(self, rollout: Rollout) -> str:
        """The response as the scorer read it."""
        return str(self._tokenizer.decode(rollout.response_ids, skip_special_tokens=True))

    def extracted(self, rollout: Rollout) -> str:
        """The answer that the scorer graded.

        Raises:
            ConfigError: the scorer did not return it.
        """
        return str(returned_by_scorer(rollout.verdict, "extracted", self._config))


def in_batches(
    missing: Callable[[], list[T]],
    work: Callable[[list[T], Arrived], int],
    *,
    size: int,
    tally: Tally,
    done: int,
) -> list[T]:
    """Do what is missing, a batch at a time; what failed to generate is tried once more.

    Args:
        missing: what is still to do.
        work: does a batch of it and says how many answers came, the second argument how many have come so far.
        size: items of a batch.
        tally: counts answers.
        done: how many there are already.

    Returns:
        What is missing after that.
    """
    left = missing()
    for _ in range(2):
        for start in range(0, len(left), size):
            done += work(left[start : start + size], tally.behind(done))
            tally.see(done)
        left = missing()
    tally.end(done)
    return left
