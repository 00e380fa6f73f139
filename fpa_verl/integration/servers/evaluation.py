"""An evaluation, whether of a run that trains or of `recipe=evaluate`: which answers it wants, and keeping them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fpa_verl.integration.servers.client import GENERATED, Arrived, Rollout, RolloutClient, SamplingRequest, in_batches
from fpa_verl.rollouts.problems import Problem
from fpa_verl.runs.answers import Answer, AnswerStore, outcomes
from fpa_verl.runs.progress import Tally
from fpa_verl.runs.record import record_evaluation

EVALUATING = "evaluating"


class SampleRequest(NamedTuple):
    """One answer that is wanted."""

    problem: Problem
    sample: int


@dataclass(frozen=True)
class EvaluationPlan:
    """The answers that an evaluation wants.

    Attributes:
        problems: those of all problem sets.
        samples: problem set to answers to each of its problems.
    """

    problems: Sequence[Problem]
    samples: Mapping[str, int]

    @property
    def requests(self) -> list[SampleRequest]:
        return [SampleRequest(p, sample) for p in self.problems for sample in range(self.samples[p.data_source])]

    @property
    def asked_for(self) -> Counter[str]:
        """How many answers each problem set wants."""
        return Counter(request.problem.data_source for request in self.requests)


class Evaluation:
    """Asks for the answers of a plan that are not in the store yet.

    Args:
        client: asks the servers that hold the model.
        plan: what is wanted.
        store: keeps the answers.
        folder: where they are counted while they come.
        seeded: each answer is drawn with a seed of its own.
        step: that of the model.
    """

    def __init__(
        self,
        client: RolloutClient,
        plan: EvaluationPlan,
        store: AnswerStore,
        folder: Path,
        *,
        seeded: bool = False,
        step: int = 0,
    ) -> None:
        self.plan, self._client, self._store, self._folder = plan, client, store, folder
        # One prompt an answer: problem sets differ in how many they want.
        self._request = SamplingRequest(n=1, validate=True, seeded=seeded, step=step)

    def missing(self) -> list[SampleRequest]:
        done = self._store.done()
        return [r for r in self.plan.requests if (r.problem.data_source, r.problem.problem_id, r.sample) not in done]

    def ask(
        self, batch: int | None = None, around: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> list[SampleRequest]:
        """Ask for the answers that are missing, and keep them as they come.

        Args:
            batch: answers in flight at a time; None: all of them.
            around: is entered for every batch, to time it.

        Returns:
            Those that could not be generated.
        """
        total = len(self.plan.requests)
        done = total - len(self.missing())

        def work(requests: list[SampleRequest], arrived: Arrived) -> int:
            problems, samples = zip(*requests, strict=True)
            with around():
                rollouts = self._client.answers(problems, self._request, samples, arrived)
            if rollouts:
                self._store.add(self._answer(requests[rollout.place], rollout) for rollout in rollouts)
            return len(rollouts)

        tally = Tally(self._folder, EVALUATING, "answers", total=total, done=done)
        return in_batches(self.missing, work, size=batch or total, tally=tally, done=done)

    def _answer(self, request: SampleRequest, rollout: Rollout) -> Answer:
        return Answer(
            data_source=request.problem.data_source,
            problem_id=request.problem.problem_id,
            sample=request.sample,
            response=self._client.text(rollout),
            response_tokens=len(rollout.response_ids),
            extracted=self._client.extracted(rollout),
            status=rollout.status,
            finish_reason=rollout.finish_reason,
            ground_truth=request.problem.ground_truth,
            trace_tokens=rollout.trace_tokens,
            generated_tokens=rollout.beside.get(GENERATED, len(rollout.response_ids)),
        )

    def record(self, run_dir: Path, attempt: int, *, trained: bool = False) -> pd.DataFrame:
        """Write the counts into a run directory; answers that did not come are counted as such.

        Args:
            run_dir: the run's.
            attempt: number of the run's attempt, from 1.
            trained: whether this attempt trained that step, and does not go on from it.

        Returns:
            The answers that it counted, with the columns of `Answer`.
        """
        found = self._store.read()
        record_evaluation(
            run_dir,
            attempt=attempt,
            step=self._request.step,
            problems={str(source): outcomes(part) for source, part in found.groupby("data_source")},
            asked_for=self.plan.asked_for,
            trained=trained,
        )
        return found
